import { createElement } from 'react';
import { renderToStaticMarkup } from 'react-dom/server';
import { describe, expect, it } from 'vitest';

import { Markdown } from '@/components/Markdown';

const render = (text: string): string => renderToStaticMarkup(createElement(Markdown, { text }));

describe('Markdown', () => {
  it('leads markers to the sources they number, with the quote at hand', () => {
    const html = render('Grew [1].\n\n## Sources\n\n1. **a.csv** — “rose by 5”');
    expect(html).toContain('<a href="#source-1" class="cite" title="a.csv — “rose by 5”"');
    expect(html).toContain('<li id="source-1"');
  });

  it('leaves markers without a source, in code, or without a list of sources alone', () => {
    expect(render('Grew [2] `x[1]`.\n\n## Sources\n\n1. a')).not.toContain('class="cite"');
    expect(render('Grew [1].')).toContain('[1]');
  });

  it('loads no picture from elsewhere and runs no HTML', () => {
    const html = render('![x](https://evil.example/a.png?secret) <script>alert(1)</script> [l](javascript:alert(1))');
    expect(html).not.toMatch(/<img|<script|javascript:/);
    expect(html).toContain('href="https://evil.example/a.png?secret"');
  });
});
