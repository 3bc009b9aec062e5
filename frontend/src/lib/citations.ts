/** Makes a report's `[1]` markers lead to the first item, and so on, of the list under its `Sources` heading. */

import type { Element, ElementContent, Root, RootContent, Text } from 'hast';

const MARKER = /\[(\d{1,3})\]/g;
const UNTOUCHED = new Set(['a', 'code', 'pre']);

function isElement(node: RootContent | ElementContent, name?: string): node is Element {
  return node.type === 'element' && (!name || node.tagName === name);
}

function plainText(node: ElementContent | RootContent): string {
  if (node.type === 'text') return node.value;
  return 'children' in node ? node.children.map(plainText).join('') : '';
}

function sourceItems(tree: Root): Element[] {
  const heading = tree.children.findIndex(
    (node) => isElement(node, 'h2') && plainText(node).trim().toLowerCase() === 'sources',
  );
  if (heading < 0) return [];
  const list = tree.children.slice(heading + 1).find((node) => isElement(node));
  if (!list || !isElement(list, 'ol')) return [];
  return list.children.filter((node): node is Element => isElement(node, 'li'));
}

function marker(number: number, quote: string): Element {
  const properties = { href: `#source-${number}`, className: ['cite'], title: quote, ariaLabel: `Source ${number}` };
  return { type: 'element', tagName: 'a', properties, children: [{ type: 'text', value: String(number) }] };
}

/** A text node cut at its markers; markers without a source stay text. */
function cut(text: Text, quotes: string[]): ElementContent[] {
  const parts: ElementContent[] = [];
  let from = 0;
  for (const match of text.value.matchAll(MARKER)) {
    const number = Number(match[1]);
    const quote = quotes[number - 1];
    if (quote === undefined) continue;
    parts.push({ type: 'text', value: text.value.slice(from, match.index) }, marker(number, quote));
    from = match.index + match[0].length;
  }
  return [...parts, { type: 'text', value: text.value.slice(from) }];
}

function walk(node: Element, quotes: string[]): void {
  if (UNTOUCHED.has(node.tagName)) return;
  node.children = node.children.flatMap((child) => {
    if (isElement(child)) walk(child, quotes);
    return child.type === 'text' ? cut(child, quotes) : [child];
  });
}

export function rehypeCitations() {
  return (tree: Root): void => {
    const items = sourceItems(tree);
    if (!items.length) return;
    items.forEach((item, index) => {
      item.properties.id = `source-${index + 1}`;
    });
    const quotes = items.map((item) => plainText(item).trim());
    const list = new Set<unknown>(items);
    for (const node of tree.children)
      if (isElement(node) && !node.children.some((child) => list.has(child))) walk(node, quotes);
  };
}
