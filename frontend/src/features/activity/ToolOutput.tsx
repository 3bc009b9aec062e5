import type { RichResult } from '@/api/events';
import { CodeBlock } from '@/components/CodeBlock';
import { FileImage } from '@/components/FileImage';
import type { OutputChunk } from '@/lib/run/view';

import { HtmlTable } from './HtmlTable';

const PICTURES = new Set<RichResult['kind']>(['png', 'jpeg', 'svg']);

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

function Rich({ result }: { result: RichResult }) {
  if (PICTURES.has(result.kind))
    return <FileImage path={result.data} alt={`Figure ${result.data}`} className="max-h-96" />;
  if (result.kind === 'html') return <HtmlTable html={result.data} />;
  if (result.kind === 'chart') return null; // a description of the picture beside it
  if (result.kind === 'json') return <CodeBlock code={pretty(result.data)} language="json" />;
  return <CodeBlock code={result.data} />;
}

function Chunk({ chunk }: { chunk: OutputChunk }) {
  if (chunk.result) return <Rich result={chunk.result} />;
  if (!chunk.text.trim()) return null;
  if (chunk.stream !== 'stderr') return <CodeBlock code={chunk.text.trimEnd()} />;
  return (
    <div className="rounded-lg border-l-3 border-brass-fill">
      <p className="sr-only">Error output</p>
      <CodeBlock code={chunk.text.trimEnd()} />
    </div>
  );
}

/** What a tool put out while it ran. */
export function ToolOutput({ output }: { output: OutputChunk[] }) {
  return output.map((chunk, index) => <Chunk key={index} chunk={chunk} />);
}
