// Requests to the server. A decision is shown at once and saved in order behind it; a failed save
// is tried again under the same batch id, so that it is written once.

const RETRIES = [300, 1000, 3000, 8000];

export class Failed extends Error {
  constructor(status, values) {
    super(values.error || `the server answered ${status}`);
    this.status = status;
    this.values = values;
  }
}

async function request(method, path, body) {
  const options = { method, credentials: "same-origin", headers: {} };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(path, options);
  const values = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Failed(answer.status, values);
  return values;
}

export const get = (path, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
  const words = new URLSearchParams(given).toString();
  return request("GET", words ? `${path}?${words}` : path);
};
export const post = (path, body) => request("POST", path, body);

export const newBatch = () => crypto.randomUUID ? crypto.randomUUID()
  : Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

/** Post until the server has answered; a lost connection or a busy ledger is tried again. */
async function persist(path, body) {
  for (let turn = 0; ; turn += 1) {
    try {
      return await post(path, body);
    } catch (error) {
      const again = !(error instanceof Failed) || error.status === 503 || error.status === 502;
      if (!again || turn >= RETRIES.length) throw error;
      await wait(RETRIES[turn]);
    }
  }
}

/** Saves that are on their way, one after another. */
export class Saves {
  constructor(changed) {
    this.changed = changed;
    this.waiting = 0;
    this.tail = Promise.resolve();
  }

  /** Save in order; resolves with the answer, and rejects with the failure. */
  add(path, body) {
    this.waiting += 1;
    this.changed(this.waiting);
    const turn = this.tail.then(() => persist(path, body));
    this.tail = turn.catch(() => undefined).then(() => {
      this.waiting -= 1;
      this.changed(this.waiting);
    });
    return turn;
  }
}

/** Exchange the token of the printed link for a cookie; the link then loses it. */
export async function enter() {
  const token = location.hash.slice(1);
  if (token.length > 20) {
    history.replaceState(null, "", "/");
    await post("/api/session", { token });
  }
}

export const pictureOf = (digest) => `/pictures/${digest}.jpg`;
