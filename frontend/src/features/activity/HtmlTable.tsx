import DOMPurify from 'dompurify';
import { useMemo } from 'react';

const ALLOWED = {
  ALLOWED_TAGS: ['table', 'thead', 'tbody', 'tfoot', 'tr', 'th', 'td', 'caption', 'p', 'b', 'i', 'em', 'strong', 'br'],
  ALLOWED_ATTR: ['colspan', 'rowspan'],
};

/** A table that code in the sandbox made: untrusted, so only the bare table is kept. */
export function HtmlTable({ html }: { html: string }) {
  const clean = useMemo(() => DOMPurify.sanitize(html, ALLOWED), [html]);
  return (
    <div
      className="table-box max-h-96 overflow-auto rounded-lg bg-sunk px-3.5 py-2"
      tabIndex={0}
      role="group"
      aria-label="Table"
      dangerouslySetInnerHTML={{ __html: clean }}
    />
  );
}
