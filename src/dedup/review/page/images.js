// Images that were fetched and decoded before they are needed; such an element paints at once.

import { pictureOf } from "./client.js";

const MOST = 400;
const known = new Map();

function make(digest) {
  const image = new Image();
  image.src = pictureOf(digest);
  image.draggable = false;
  known.delete(digest);
  known.set(digest, image);
  if (known.size > MOST) known.delete(known.keys().next().value);
  return image;
}

const SOON = 12, AT_ONCE = 4, WHEN_BUSY_MS = 300;
const waiting = new Set();
const whenIdle = globalThis.requestIdleCallback ?? ((call) => setTimeout(call, 50));

const get = (digest) => make(digest).decode().catch(() => undefined); // its place says that it is missing

/** Fetch images, and decode them: those of the next items at once, the others between two keys. */
export function preload(digests) {
  const missing = [...new Set(digests)].filter((digest) => digest && !known.has(digest));
  for (const digest of missing.slice(0, SOON)) { waiting.delete(digest); get(digest); }
  const isIdle = waiting.size === 0;
  for (const digest of missing.slice(SOON)) waiting.add(digest);
  if (isIdle && waiting.size) whenIdle(more, { timeout: WHEN_BUSY_MS });
}

function more() {
  for (const digest of [...waiting].slice(0, AT_ONCE)) { waiting.delete(digest); if (!known.has(digest)) get(digest); }
  if (waiting.size) whenIdle(more, { timeout: WHEN_BUSY_MS });
}

/** An element of an image: the decoded one, unless the page shows that already. */
export function imageOf(digest, alt) {
  const ready = known.get(digest);
  const image = ready && !ready.isConnected && !ready.dataset.taken ? ready : make(digest);
  image.alt = alt;
  image.dataset.taken = "yes";
  queueMicrotask(() => delete image.dataset.taken);
  return image;
}
