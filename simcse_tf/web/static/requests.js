// Asks the demo, and drops what is not wanted any more.

const PAUSES = [1000, 2000, 4000];

export class Failure extends Error {
  constructor(message, mayPass) {
    super(message);
    this.mayPass = mayPass;
  }
}

export async function ask(path, body, signal) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let answer, status;
  try {
    const response = await fetch(path, { ...options, signal });
    status = response.status;
    answer = await response.json();
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Failure("The demo does not answer. Is it still running?", true);
  }
  signal.throwIfAborted();
  if (status !== 200) throw new Failure(answer.error, status === 503);
  return answer;
}

/** Runs the newest of several jobs; one whose failure may pass is tried again. */
export class Newest {
  #running = new AbortController();

  stop() {
    this.#running.abort();
  }

  /** @param job is called with a signal; @param failed with each `Failure`. */
  async run(job, failed, pause = 0) {
    this.stop();
    const { signal } = (this.#running = new AbortController());
    for (let attempt = 0; ; attempt++) {
      await new Promise((done) => setTimeout(done, pause));
      if (signal.aborted) return;
      try {
        return await job(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof Failure)) throw error;
        failed(error);
        if (!error.mayPass) return;
        pause = PAUSES[Math.min(attempt, PAUSES.length - 1)];
      }
    }
  }
}
