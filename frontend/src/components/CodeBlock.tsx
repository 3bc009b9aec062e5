import { useEffect, useState } from 'react';

interface CodeBlockProps {
  code: string;
  language?: string;
  /** Break long lines, for prose and the like; code and tables keep theirs. */
  wrap?: boolean;
}

/** Monospaced text in a box of bounded height, coloured once the highlighter has been loaded. */
export function CodeBlock({ code, language = '', wrap = false }: CodeBlockProps) {
  const [html, setHtml] = useState('');
  useEffect(() => {
    let wanted = true;
    if (language)
      void import('@/lib/highlight').then(({ highlight }) => wanted && setHtml(highlight(code, language)));
    return () => {
      wanted = false;
    };
  }, [code, language]);
  const lines = wrap ? 'whitespace-pre-wrap wrap-anywhere' : 'whitespace-pre';
  const box = `max-h-96 overflow-auto rounded-lg bg-sunk px-3.5 py-2.5 font-mono text-[0.8rem] leading-relaxed ${lines}`;
  // The highlighter escapes the code it is given and adds only its own spans.
  if (html) return <pre tabIndex={0} className={box} dangerouslySetInnerHTML={{ __html: html }} />;
  return (
    <pre tabIndex={0} className={box}>
      {code}
    </pre>
  );
}
