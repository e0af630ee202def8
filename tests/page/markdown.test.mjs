// The Markdown parser: whole texts, and texts that grow.
import assert from "node:assert/strict";
import { test } from "node:test";

import { createMarkdownParser, parseMarkdown, plainText, safeImage, safeLink, splitReasoning } from "../../static/scripts/chat/markdown.mjs";

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

/** All blocks of a text that arrives in chunks, cut at these offsets. */
function grown(text, cuts) {
  const parser = createMarkdownParser();
  const blocks = [];
  let open = [];
  for (const cut of [...cuts, text.length]) {
    const read = parser.parse(text.slice(0, cut));
    blocks.push(...read.closed);
    open = read.open;
  }
  return [...blocks, ...open].map((token) => `${token.type} ${token.raw.trim()}`);
}

const whole = (text) => parseMarkdown(text).map((token) => `${token.type} ${token.raw.trim()}`);

test("an answer in two chunks has the same blocks as the whole, at every cut", () => {
  for (let cut = 0; cut <= SAMPLE.length; cut += 1) assert.deepEqual(grown(SAMPLE, [cut]), whole(SAMPLE), `cut at ${cut}`);
});

test("an answer in chunks of one character has the same blocks as the whole", () => {
  assert.deepEqual(grown(SAMPLE, Array.from(SAMPLE, (_, at) => at)), whole(SAMPLE));
});

test("closed blocks are parsed once: 50 kB in 2,500 chunks take less than a second", () => {
  const text = `${"Some **bold** words with `code` in a line. ".repeat(6)}\n\n`.repeat(200).slice(0, 50_000);
  const parser = createMarkdownParser();
  const began = performance.now();
  for (let at = 20; at <= text.length; at += 20) parser.parse(text.slice(0, at));
  const took = performance.now() - began;
  assert.ok(took < 1000, `${took} ms`);
});

test("a parser refuses a text that does not continue the last one", () => {
  const parser = createMarkdownParser();
  parser.parse("one\n\ntwo\n\nthree of them");
  assert.throws(() => parser.parse("other"), RangeError);
});

test("only links to web pages and mail addresses are links", () => {
  assert.equal(safeLink("https://example.org/a?b=c"), "https://example.org/a?b=c");
  assert.equal(safeLink("mailto:a@example.org"), "mailto:a@example.org");
  for (const href of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\nscript:alert(1)", "&#106;avascript:alert(1)", "data:text/html,x",
    "vbscript:x", "//example.org", "/local", "#here", "file:///etc/passwd", "blob:x", "https://", "https:// x", "", undefined]) {
    assert.equal(safeLink(href), null, String(href));
  }
});

test("only data URLs of bitmaps are images", () => {
  assert.equal(safeImage("data:image/png;base64,AAAA"), "data:image/png;base64,AAAA");
  for (const href of ["https://evil.example/p.png", "//evil/p.png", "data:image/svg+xml;base64,AAAA", "data:text/html,x", "p.png", undefined]) {
    assert.equal(safeImage(href), null, String(href));
  }
});

test("character references are replaced", () => {
  assert.equal(plainText("a &amp; b &lt;c&gt; &#39;&#x41; &hellip; &unknown; &#0; &#xd800; &"), "a & b <c> 'A … &unknown; &#0; &#xd800; &");
});

test("reasoning in tags is separated from the text", () => {
  assert.deepEqual(splitReasoning("plain"), { reasoning: "", text: "plain" });
  assert.deepEqual(splitReasoning("<think>\nhm\n</think>\n\nyes"), { reasoning: "hm", text: "yes" });
  assert.deepEqual(splitReasoning("<think>not finished"), { reasoning: "not finished", text: "" });
  assert.deepEqual(splitReasoning("a <think>b</think>"), { reasoning: "", text: "a <think>b</think>" });
});
