// One column: an index with its model, and what they find.

import { cosineBar, foreign, make } from "./elements.js";
import { drawPlane } from "./plane.js";
import { Newest, ask } from "./requests.js";

// Typing goes on meanwhile.
const PAUSE = 150;

export class Side {
  hits = [];
  #newest = new Newest();
  #found = make("div", { class: "found" });
  #trouble = make("p", { class: "trouble", role: "alert" });
  #path;

  constructor(about, number, kind) {
    this.about = about;
    this.#path = `/api/sides/${number}/${kind}`;
    const title = foreign("h2", about.name);
    title.id = `${kind}-${number}`;
    const facts = [
      about.model,
      `${about.rows.toLocaleString("en")} texts`,
      `${about.dimension} dimensions`,
      about.kind,
    ];
    this.element = make(
      "section",
      { class: `side side-${number}`, "aria-labelledby": title.id },
      make("header", {}, title, make("p", { class: "note" }, facts.join(", "))),
      this.#trouble,
      this.#found,
    );
  }

  clear() {
    this.#newest.stop();
    this.#settle();
  }

  /** Asks; `done` gets the answer, or nothing where there is none. */
  ask(body, done) {
    this.element.setAttribute("aria-busy", "true");
    return this.#newest.run(
      async (signal) => {
        const answer = await ask(this.#path, body, signal);
        this.#settle();
        done(answer);
      },
      (failure) => {
        const again = failure.mayPass ? " (trying again …)" : "";
        this.#settle(failure.message + again);
        done();
      },
      PAUSE,
    );
  }

  showHits({ hits, plane, reading }) {
    this.hits = hits;
    this.#found.append(showReading(reading));
    if (!hits.length) {
      this.#found.append(make("p", { class: "none" }, "Nothing is found: no text passes the filter and the least cosine."));
    } else {
      const list = make("ol", { class: "hits" }, ...hits.map(showHit));
      const figure = drawPlane(plane, hits);
      this.#found.append(list, figure);
      linkRanks(list, figure);
    }
  }

  /** Marks the hits that another side has as well. */
  markShared(others) {
    const ranks = new Map(others.map(({ text }, i) => [text, i + 1]));
    this.#found.querySelectorAll(".hit").forEach((item, i) => {
      const rank = ranks.get(this.hits[i].text);
      if (rank) item.append(make("p", { class: "shared" }, `also number ${rank} of the other`));
    });
  }

  showCosine({ cosine }) {
    this.#found.append(cosineBar(cosine));
  }

  #settle(trouble = "") {
    this.element.removeAttribute("aria-busy");
    this.hits = [];
    this.#found.replaceChildren();
    // Told once, not at every attempt.
    if (this.#trouble.textContent !== trouble) this.#trouble.textContent = trouble;
  }
}

function showHit({ id, text, cosine, metadata }, i) {
  const values = [["id", id], ...Object.entries(metadata)].map(([key, value]) =>
    make("div", {}, foreign("dt", key), foreign("dd", value === null ? "–" : String(value))),
  );
  return make(
    "li",
    { class: "hit", "data-rank": i + 1 },
    make("span", { class: "rank", "aria-hidden": "true" }, i + 1),
    foreign("p", text, { class: "text" }),
    cosineBar(cosine),
    make("dl", { class: "metadata" }, ...values),
  );
}

/** What the pointer is at is marked in the list and in the picture. */
function linkRanks(list, figure) {
  for (const from of [list, figure]) {
    for (const kind of ["pointerover", "pointerout"]) {
      from.addEventListener(kind, ({ target }) => {
        const { rank } = target.closest("[data-rank]")?.dataset ?? {};
        for (const where of [list, figure]) {
          where
            .querySelector(`[data-rank="${rank}"]`)
            ?.classList.toggle("marked", kind === "pointerover");
        }
      });
    }
  }
}

function showReading(reading) {
  if (!reading) {
    const told = "Start the demo with --model too, and the tokens that the model reads are shown here.";
    return make("p", { class: "reading note" }, told);
  }
  const { tokens, left_out: leftOut, is_counted: isCounted } = reading;
  const list = make(
    "ol",
    { class: "tokens", tabindex: "0", "aria-label": "Tokens of the query" },
    ...tokens.map(({ text, id, kind }) => foreign("li", text, { class: kind, dir: "ltr", title: `id ${id}` })),
  );
  let told = `The model reads ${tokens.length} tokens.`;
  if (leftOut) {
    const more = `${isCounted ? "" : "more than "}${leftOut.toLocaleString("en")}`;
    told = `The model reads ${tokens.length} tokens and does not see ${more} further ones: the query is cut.`;
  }
  const note = make("p", { class: leftOut ? "note cut" : "note" }, told);
  return make("div", { class: "reading" }, note, list);
}
