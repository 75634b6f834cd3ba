// What the page shows, as its address holds it: behind the #, which no server sees.

const DEFAULTS = { view: "search", q: "", k: "10", min: "", where: "", a: "", b: "" };

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const known = Object.keys(DEFAULTS).filter((key) => given.has(key));
  return { ...DEFAULTS, ...Object.fromEntries(known.map((key) => [key, given.get(key)])) };
}

export function address(state) {
  const changed = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
  return `#${new URLSearchParams(changed)}`;
}

export function write(state) {
  try {
    history.replaceState(null, "", address(state));
  } catch {
    // Browsers refuse it where it comes too often, or is too long.
  }
}
