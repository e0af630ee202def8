// Markdown as the page reads it: whole, and as it grows.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createMarkdownReader, parseMarkdown, plainText, safeImage, safeLink, splitThought } from "../../static/scripts/chat/markdown.mjs";

const SAMPLE = `# Title

A paragraph with **bold**, \`code\` and a [link](https://example.org).
Its second line.

- one
- two
  - inner

  more of two
- three

1. first
2. second

> quoted
> twice

| a | b |
|---|--:|
| 1 | 2 |
| 3 | 4 |

\`\`\`python
def f():

    return "# no heading"
\`\`\`

Setext
------

***

<div>html</div>

Last words without an end`;

/** All that a reader gave, when the text comes cut at these places. */
function grown(text, cuts) {
  const reader = createMarkdownReader();
  const blocks = [];
  let open = [];
  for (const cut of [...cuts, text.length]) {
    const read = reader.read(text.slice(0, cut));
    blocks.push(...read.fresh);
    open = read.open;
  }
  return [...blocks, ...open].map((token) => `${token.type} ${token.raw.trim()}`);
}

const whole = (text) => parseMarkdown(text).map((token) => `${token.type} ${token.raw.trim()}`);

test("an answer that comes in two pieces, cut anywhere, has the same blocks as the whole", () => {
  for (let cut = 0; cut <= SAMPLE.length; cut += 1) assert.deepEqual(grown(SAMPLE, [cut]), whole(SAMPLE), `cut at ${cut}`);
});

test("an answer that comes character by character has the same blocks as the whole", () => {
  assert.deepEqual(grown(SAMPLE, Array.from(SAMPLE, (_, at) => at)), whole(SAMPLE));
});

test("what is finished is read once: 50 kB in 2,500 pieces take less than a second", () => {
  const text = `${"Some **bold** words with `code` in a line. ".repeat(6)}\n\n`.repeat(200).slice(0, 50_000);
  const reader = createMarkdownReader();
  const began = performance.now();
  for (let at = 20; at <= text.length; at += 20) reader.read(text.slice(0, at));
  const took = performance.now() - began;
  assert.ok(took < 1000, `${took} ms`);
});

test("a reader refuses a text that does not go on from the last one", () => {
  const reader = createMarkdownReader();
  reader.read("one\n\ntwo\n\nthree of them");
  assert.throws(() => reader.read("other"), RangeError);
});

test("only links to the web and to mail are followed", () => {
  assert.equal(safeLink("https://example.org/a?b=c"), "https://example.org/a?b=c");
  assert.equal(safeLink("mailto:a@example.org"), "mailto:a@example.org");
  for (const href of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\nscript:alert(1)", "&#106;avascript:alert(1)", "data:text/html,x",
    "vbscript:x", "//example.org", "/local", "#here", "file:///etc/passwd", "blob:x", "https://", "https:// x", "", undefined]) {
    assert.equal(safeLink(href), null, String(href));
  }
});

test("an image is shown when it is in the text itself, and of a kind that holds no script", () => {
  assert.equal(safeImage("data:image/png;base64,AAAA"), "data:image/png;base64,AAAA");
  for (const href of ["https://evil.example/p.png", "//evil/p.png", "data:image/svg+xml;base64,AAAA", "data:text/html,x", "p.png", undefined]) {
    assert.equal(safeImage(href), null, String(href));
  }
});

test("character references become their characters", () => {
  assert.equal(plainText("a &amp; b &lt;c&gt; &#39;&#x41; &hellip; &unknown; &#0; &#xd800; &"), "a & b <c> 'A … &unknown; &#0; &#xd800; &");
});

test("what a model thought in its text is told from what it said", () => {
  assert.deepEqual(splitThought("plain"), { thought: "", text: "plain" });
  assert.deepEqual(splitThought("<think>\nhm\n</think>\n\nyes"), { thought: "hm", text: "yes" });
  assert.deepEqual(splitThought("<think>still at it"), { thought: "still at it", text: "" });
  assert.deepEqual(splitThought("a <think>b</think>"), { thought: "", text: "a <think>b</think>" });
});
