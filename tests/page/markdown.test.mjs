// The small part of Markdown that the page knows.
import assert from "node:assert/strict";
import { test } from "node:test";

import { parseMarkdown, parseSpans } from "../../static/scripts/markdown.mjs";

const text = (value) => ({ type: "text", text: value });
const paragraph = (value) => ({ type: "paragraph", spans: [text(value)] });

test("paragraphs keep their line breaks and end at a blank line", () => {
  assert.deepEqual(parseMarkdown("one\ntwo\n\nthree"), [paragraph("one\ntwo"), paragraph("three")]);
});

test("a fence holds its text as it is", () => {
  assert.deepEqual(parseMarkdown("see\n```python\nif a:\n\n    # b\n```\nafter"), [
    paragraph("see"),
    { type: "code", language: "python", text: "if a:\n\n    # b" },
    paragraph("after"),
  ]);
});

test("a fence that is still open goes to the end", () => {
  assert.deepEqual(parseMarkdown("```js\nlet a"), [{ type: "code", language: "js", text: "let a" }]);
});

test("a longer fence may hold a shorter one", () => {
  assert.deepEqual(parseMarkdown("````\n```\n````"), [{ type: "code", language: "", text: "```" }]);
});

test("headings, rules and quotes", () => {
  assert.deepEqual(parseMarkdown("## Title ##\n---\n> a\n> b"), [
    { type: "heading", level: 2, spans: [text("Title")] },
    { type: "rule" },
    { type: "quote", spans: [text("a\nb")] },
  ]);
});

test("lists: bullets, numbers with their start, loose ones and continued items", () => {
  assert.deepEqual(parseMarkdown("- a\n- b\n  more\n\n- c\n\n3. x\n4. y"), [
    { type: "list", ordered: false, start: 1, items: [[text("a")], [text("b\nmore")], [text("c")]] },
    { type: "list", ordered: true, start: 3, items: [[text("x")], [text("y")]] },
  ]);
});

test("code and emphasis within a line", () => {
  assert.deepEqual(parseSpans("a `b*c*` **d** *e* ``f`g``"), [
    text("a "),
    { type: "code", text: "b*c*" },
    text(" "),
    { type: "strong", text: "d" },
    text(" "),
    { type: "em", text: "e" },
    text(" "),
    { type: "code", text: "f`g" },
  ]);
});

test("what is no mark stays text", () => {
  for (const plain of ["2 * 3 * 4", "a ** b", "`open", "**open", "snake_case_name", "<b>no</b>", "[x](javascript:1)"]) {
    assert.deepEqual(parseSpans(plain), [text(plain)]);
  }
});

test("no letter is lost or doubled, whatever the marks", () => {
  const saidBy = (block) =>
    (block.type === "code" ? block.language + block.text : "") +
    [...(block.spans ?? []), ...(block.items ?? []).flat()].map((span) => span.text).join("");
  const letters = (given) => given.replace(/[^a-z]/g, "");
  const pieces = ["`", "``", "```", "*", "**", "\n", "\n\n", "- ", "1. ", "> ", "# ", "a", " b ", "~~~", "---", "  "];
  let seed = 1;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (let round = 0; round < 5000; round += 1) {
    const given = Array.from({ length: 14 }, () => pieces[Math.floor(random() * pieces.length)]).join("");
    assert.equal(letters(parseMarkdown(given).map(saidBy).join("")), letters(given), JSON.stringify(given));
  }
});

test("hostile lines take no long time", () => {
  const began = performance.now();
  for (const mark of ["`a ", "**a ", "*a ", "``a", "*a*b", "[", "> "]) parseMarkdown(mark.repeat(30_000));
  parseMarkdown("- a\n".repeat(30_000));
  parseMarkdown(`${"**a ".repeat(1200)}\n`.repeat(5));
  assert.ok(performance.now() - began < 2000);
});
