/** The fields that a Markdown file begins with, apart from its text. */

export interface Parted {
  fields: [name: string, value: string][];
  body: string;
}

const BLOCK = /^---\r?\n([\s\S]*?)\r?\n---\r?\n?/;

export function partFrontMatter(text: string): Parted {
  const block = BLOCK.exec(text);
  const lines = block?.[1]?.split(/\r?\n/) ?? [];
  const fields = lines.map((line) => /^(\w[\w -]*):\s*(.*)$/.exec(line));
  if (!block || !fields.length || fields.some((field) => !field)) return { fields: [], body: text };
  return {
    fields: fields.map((field) => [field?.[1] ?? '', (field?.[2] ?? '').replace(/^"(.*)"$/, '$1')]),
    body: text.slice(block[0].length),
  };
}
