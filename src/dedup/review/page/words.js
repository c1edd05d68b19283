// Words and keys of the page, in one place.

export const VERDICTS = [
  { key: "1", verdict: "duplicate", short: "Same product" },
  { key: "2", verdict: "other_product", short: "Same image, other product" },
  { key: "3", verdict: "variant", short: "Variant" },
  { key: "4", verdict: "different", short: "Not a duplicate" },
  { key: "5", verdict: "unsure", short: "Not sure" },
];
export const WORDS = Object.fromEntries(VERDICTS.map((one) => [one.verdict, one.short]));

export const KEYS = [
  ["1 – 5", "decide: same product, same image but other product, variant, not a duplicate, not sure"],
  ["Enter", "give the proposed verdict to all that are open"],
  ["Space", "skip until tomorrow"],
  ["Z", "undo"],
  ["K", "keep the product that has the focus"],
  ["X", "take the product that has the focus out of the group: not a duplicate"],
  ["← →", "move the focus to another product"],
  ["F", "flick between two images at one place"],
  ["D", "show what differs"],
  ["+ − 0", "zoom in, out, back"],
  ["/", "history of a product"],
  ["?", "this help"],
];
