// The page: its fields, its address and its two views.

import { Side } from "./side.js";
import { Newest, ask } from "./requests.js";
import { address, read, write } from "./state.js";
import { make, plain } from "./elements.js";

const $ = (id) => document.getElementById(id);
// The fields by the names that they have in the address.
const FIELDS = { q: "query", k: "k", min: "threshold", where: "where", a: "a", b: "b" };
const TITLE = document.title;
const EXAMPLES = { string: ' = "..."', bool: " = true" };
const SLOW = 700;

let state = read();
let searching = [];
let comparing = [];
let waiting;

function start() {
  const newest = new Newest();
  newest.run(
    async (signal) => {
      const { sides, most_hits: mostHits } = await ask("/api/sides", undefined, signal);
      $("k").max = mostHits;
      searching = sides.map((about, i) => new Side(about, i, "search"));
      comparing = sides.map((about, i) => new Side(about, i, "similarity"));
      $("results").replaceChildren(...searching.map(({ element }) => element));
      $("cosines").replaceChildren(...comparing.map(({ element }) => element));
      showFilter(sides);
      showExamples(sides);
      showState();
    },
    (failure) => ($("search-status").textContent = failure.message),
  );
  for (const [key, id] of Object.entries(FIELDS)) {
    // Half a filter is a mistake, half a sentence is none.
    const event = key === "where" ? "change" : "input";
    $(id).addEventListener(event, () => change({ [key]: $(id).value }));
  }
  for (const form of document.forms) {
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    $(state.view === "pair" ? "cosines" : "results").focus();
  });
  addEventListener("hashchange", () => {
    state = read();
    showState();
  });
}

function change(values) {
  state = { ...state, ...values };
  write(state);
  showState();
}

function showState() {
  for (const [key, id] of Object.entries(FIELDS)) {
    if ($(id).value !== state[key]) $(id).value = state[key];
  }
  const isPair = state.view === "pair";
  $("search").hidden = isPair;
  $("pair").hidden = !isPair;
  $("to-search").href = address({ ...state, view: "search" });
  $("to-pair").href = address({ ...state, view: "pair" });
  $("to-search").ariaCurrent = isPair ? "false" : "page";
  $("to-pair").ariaCurrent = isPair ? "page" : "false";
  (isPair ? compare : search)();
}

function search() {
  const { q, k, min, where } = state;
  document.title = q ? `${plain(q, 60)} – ${TITLE}` : TITLE;
  $("examples").hidden = q !== "";
  const answers = new Map();
  if (!q) {
    searching.forEach((side) => side.clear());
    $("search-status").textContent = "";
    return;
  }
  const body = {
    query: q,
    k: Number(k),
    threshold: min === "" ? null : Number(min),
    where: where.trim() || null,
  };
  tellWhenSlow("search-status");
  for (const side of searching) {
    side.ask(body, (answer) => {
      answers.set(side, answer);
      if (answer) side.showHits(answer);
      const most = Math.max(...searching.map(({ hits }) => hits.length));
      $("results").style.setProperty("--hits", most);
      if (answers.size < searching.length) return;
      const [one, other] = searching;
      if (other && answers.get(one) && answers.get(other)) {
        one.markShared(other.hits);
        other.markShared(one.hits);
      }
      tell("search-status", answers, ({ hits, seconds }) => `${hits.length} hits in ${time(seconds)}`);
    });
  }
}

function compare() {
  const { a, b } = state;
  document.title = TITLE;
  const answers = new Map();
  if (!a || !b) {
    comparing.forEach((side) => side.clear());
    $("pair-status").textContent = "Type two sentences to see their cosine.";
    return;
  }
  tellWhenSlow("pair-status");
  for (const side of comparing) {
    side.ask({ a, b }, (answer) => {
      answers.set(side, answer);
      if (answer) side.showCosine(answer);
      tell("pair-status", answers, ({ cosine, seconds }) => `cosine ${cosine.toFixed(3)} in ${time(seconds)}`);
    });
  }
}

function tellWhenSlow(id) {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    if (document.querySelector('[aria-busy="true"]')) $(id).textContent = "Waiting for the model …";
  }, SLOW);
}

function tell(id, answers, sentence) {
  const sides = [...searching, ...comparing].filter((side) => answers.get(side));
  const name = ({ about }) => (searching.length > 1 ? `${about.name}: ` : "");
  $(id).textContent = sides
    .map((side) => name(side) + sentence(answers.get(side)))
    .join("; ");
}

function time(seconds) {
  return `${Math.max(1, Math.round(1000 * seconds)).toLocaleString("en")} ms`;
}

function showFilter(sides) {
  const columns = Object.entries(Object.assign({}, ...sides.map(({ columns }) => columns)));
  $("filter").hidden = $("columns").hidden = !columns.length;
  const told = columns.map(([name, type]) => `${name} (${type})`).join(", ");
  $("columns").textContent = `Enter applies the filter. Columns: ${told}.`;
  const example = ([name, type]) => name + (EXAMPLES[type] ?? " >= 1");
  $("where").placeholder = columns.slice(0, 2).map(example).join(" and ");
}

function showExamples(sides) {
  const list = document.querySelector("#examples ul");
  list.replaceChildren(
    ...sides[0].examples.map((text) => {
      const button = make("button", { type: "button", dir: "auto" }, text);
      button.addEventListener("click", () => {
        change({ q: text });
        $("query").focus();
      });
      return make("li", {}, button);
    }),
  );
}

start();
