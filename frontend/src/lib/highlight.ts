/** Colours for the few languages that agents write; loaded when the first code is shown. */

import hljs from 'highlight.js/lib/core';
import bash from 'highlight.js/lib/languages/bash';
import json from 'highlight.js/lib/languages/json';
import python from 'highlight.js/lib/languages/python';
import sql from 'highlight.js/lib/languages/sql';

for (const [name, language] of Object.entries({ bash, json, python, sql })) hljs.registerLanguage(name, language);
hljs.registerAliases(['sh', 'shell'], { languageName: 'bash' });
hljs.registerAliases(['py'], { languageName: 'python' });

const LONGEST = 100_000;

/** HTML with the code escaped; empty for a language it does not know or code too long to colour. */
export function highlight(code: string, language: string): string {
  if (!hljs.getLanguage(language) || code.length > LONGEST) return '';
  return hljs.highlight(code, { language, ignoreIllegals: true }).value;
}
