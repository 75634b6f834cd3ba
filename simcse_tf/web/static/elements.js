// Elements out of texts that strangers wrote. Nothing here reads a text as HTML.

// What has no form of its own, or turns the direction of what follows.
const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]/gu;
const LONG = 400;

/** `make("p", {class: "note"}, "text", child)` */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A text in a direction of its own; what cannot be seen stands as its code. */
export function foreign(name, text, attributes = {}) {
  const element = make(name, { dir: "auto", ...attributes });
  if (text.length <= LONG) {
    fill(element, text);
    return element;
  }
  const beginning = make("span");
  fill(beginning, text.slice(0, LONG).replace(/[\ud800-\udbff]$/, ""));
  const more = make(
    "button",
    { type: "button", class: "more" },
    `… all ${text.length.toLocaleString("en")} characters`,
  );
  more.addEventListener("click", () => {
    element.tabIndex = -1;
    element.replaceChildren();
    fill(element, text);
    element.focus();
  });
  element.append(beginning, more);
  return element;
}

/** A text for where no element can be, such as the title. */
export function plain(text, longest) {
  return text.slice(0, longest).replace(UNSEEN, " ");
}

export function number(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}

export function cosineBar(cosine) {
  const filled = make("span", { class: "filled" });
  filled.style.width = `${100 * Math.max(0, Math.min(1, cosine))}%`;
  return make(
    "p",
    { class: "cosine", title: `cosine ${number(cosine, 6)}` },
    make("span", { class: "bar", "aria-hidden": "true" }, filled),
    make("span", { class: "hidden" }, "cosine "),
    number(cosine, 3),
  );
}

function fill(element, text) {
  let end = 0;
  for (const match of text.matchAll(UNSEEN)) {
    const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    element.append(
      text.slice(end, match.index),
      make("span", { class: "code", dir: "ltr" }, `U+${code}`),
    );
    end = match.index + match[0].length;
  }
  element.append(text.slice(end));
}
