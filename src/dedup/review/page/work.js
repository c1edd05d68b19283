// The items that this reviewer holds, and the decisions that are on their way.

import { get, newBatch, post, Saves } from "./client.js";
import { preload } from "./images.js";

const PREFETCH = 30;
const REFILL = 24;
const HEARTBEAT_MS = 40_000;

export const pairKey = (one) => JSON.stringify([one.left, one.right]);

export class Work {
  constructor(app) {
    this.app = app;
    this.queue = [];
    this.batches = [];
    this.open = 0;
    this.total = 0;
    this.isEmpty = false;
    this.filling = null;
    this.saves = new Saves((n) => { app.saving(n); if (n === 0) this.drained(); });
    setInterval(() => this.renew(), HEARTBEAT_MS);
    addEventListener("pagehide", () => this.release());
  }

  held() { return this.queue.map((item) => item.item); }

  /** Forget the queue, give its items back, and start again. */
  async restart() {
    await this.release();
    this.queue = [];
    this.finished.clear();
    this.isEmpty = false;
    await this.filling;
    await this.refill();
  }

  /** Fetch more items before they are needed. */
  refill() {
    if (this.filling || this.isEmpty || this.queue.length >= REFILL) return this.filling ?? Promise.resolve();
    const held = [...this.held(), ...this.justDone];
    this.filling = get("/api/work", { n: PREFETCH, order: this.app.order, filter: this.app.filter, held: held.join(",") })
      .then((answer) => {
        const known = new Set(this.held());
        const fresh = answer.items.filter((item) => !known.has(item.item) && !this.finished.has(item.item));
        this.queue.push(...fresh);
        this.open = answer.open;
        this.total = answer.total;
        this.isEmpty = answer.items.length === 0 && this.saves.waiting === 0;
        this.preload();
      })
      .finally(() => { this.filling = null; });
    return this.filling;
  }

  /** Items whose decision is on its way, and all that were decided on in this session. */
  justDone = new Set();
  finished = new Set();

  done(items) {
    for (const { item } of items) { this.justDone.add(item); this.finished.add(item); }
  }

  notDone(numbers) {
    for (const number of numbers) { this.justDone.delete(number); this.finished.delete(number); }
  }

  /** All is saved: what the server kept back may be open now. */
  drained() {
    if (this.queue.length || this.isEmpty) return;
    this.finished.clear(); // what was undone elsewhere may come again
    Promise.resolve(this.filling).then(() => this.refill()).then(() => this.app.render()).catch((error) => this.app.failed(error));
  }

  /** Fetch and decode the pictures of the items to come. */
  preload() { preload(this.queue.flatMap((item) => item.questions.flatMap((one) => one.shown))); }

  /** Make the choice of a verdict on a question. */
  choice(question, verdict, kept, tookMs) {
    const isEnd = kept === question.left || kept === question.right;
    return { left: question.left, right: question.right, verdict, kept: isEnd ? kept : "", expected: question.expected, blind: question.blind,
      took_ms: Math.round(tookMs), replaces: question.replaces ?? [] };
  }

  /** Save choices in the background; what was refused comes back with the reason. */
  decide(choices, source, items, label) {
    const batch = newBatch();
    const entry = { batch, label, items: items.map((item) => item.item) };
    this.batches.push(entry);
    this.done(items.filter((item) => !item.questions.some((one) => one.open)));
    this.saves.add("/api/decisions", { batch, source, choices })
      .then(() => this.settleDone(items))
      .catch((error) => this.bringBack(entry, items, choices, error));
    return batch;
  }

  settleDone(items) {
    this.open = Math.max(0, this.open - items.filter((item) => !item.questions.some((one) => one.open)).length);
    for (const item of items) this.justDone.delete(item.item);
    this.app.counted();
  }

  bringBack(entry, items, choices, error) {
    this.batches = this.batches.filter((one) => one !== entry);
    this.notDone(items.map((item) => item.item));
    const given = new Set(choices.map(pairKey));
    for (const item of items) {
      for (const question of item.questions) if (given.has(pairKey(question))) question.open = true;
    }
    for (const conflict of error.values?.conflicts ?? []) {
      for (const item of items) {
        for (const question of item.questions) {
          if (pairKey(question) !== pairKey(conflict)) continue;
          const places = conflict.decisions.map((row) => [row.batch, row.seq]);
          if (conflict.reason === "changed") question.expected = places[0] ?? null;
          else question.replaces = places;
          question.conflict = conflict;
        }
      }
    }
    const back = items.filter((item) => !this.queue.includes(item));
    this.queue.unshift(...back);
    this.isEmpty = false;
    this.app.cameBack(error);
  }

  /** Undo the latest batch of this session; its items are first again. */
  undo() {
    const entry = this.batches.pop();
    if (!entry) return null;
    this.saves.add("/api/undo", { undo: entry.batch, batch: newBatch() })
      .then((answer) => {
        const again = new Map(answer.items.map((item) => [item.item, item]));
        this.queue = [...answer.items, ...this.queue.filter((item) => !again.has(item.item))];
        this.notDone(again.keys());
        this.isEmpty = false;
        this.open += 1;
        this.preload();
        this.app.undone(entry);
      })
      .catch((error) => { this.batches.push(entry); this.app.failed(error); });
    return entry;
  }

  skip(items) {
    this.queue = this.queue.filter((item) => !items.includes(item));
    this.done(items);
    this.saves.add("/api/skip", { items: items.map((item) => item.item) }).catch((error) => {
      this.notDone(items.map((item) => item.item));
      this.queue.unshift(...items);
      this.app.cameBack(error);
    }).finally(() => { for (const item of items) this.justDone.delete(item.item); });
  }

  renew() {
    const items = this.held();
    if (items.length) post("/api/renew", { items }).catch(() => undefined); // the next save says what is wrong
  }

  release() {
    const items = this.held();
    if (!items.length) return Promise.resolve();
    return fetch("/api/release", { method: "POST", keepalive: true, credentials: "same-origin",
      headers: { "Content-Type": "application/json" }, body: JSON.stringify({ items }) }).catch(() => undefined);
  }
}
