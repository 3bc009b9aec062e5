import { describe, expect, it } from 'vitest';

import { partFrontMatter } from '@/lib/frontMatter';

describe('partFrontMatter', () => {
  it('parts the fields from the text', () => {
    expect(partFrontMatter('---\nid: "S1"\norigin: https://a.example/x: y\n---\n# Title\n')).toEqual({
      fields: [
        ['id', 'S1'],
        ['origin', 'https://a.example/x: y'],
      ],
      body: '# Title\n',
    });
  });

  it.each(['# Title\n\n---\n\nmore', '---\n\nA line between two rules\n\n---\n', ''])('leaves %j as it is', (text) => {
    expect(partFrontMatter(text)).toEqual({ fields: [], body: text });
  });
});
