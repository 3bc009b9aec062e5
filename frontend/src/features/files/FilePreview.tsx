import * as Dialog from '@radix-ui/react-dialog';
import { useQuery } from '@tanstack/react-query';
import { Download, X } from 'lucide-react';

import { downloadFile, fetchBeginning } from '@/api/files';
import { IconButton } from '@/components/Button';
import { CodeBlock } from '@/components/CodeBlock';
import { ErrorNote } from '@/components/ErrorNote';
import { FileImage } from '@/components/FileImage';
import { Markdown } from '@/components/Markdown';
import { useSessionFiles } from '@/components/session';
import { partFrontMatter } from '@/lib/frontMatter';

const PICTURE = /\.(png|jpe?g|gif|webp|svg)$/i;
const MARKDOWN = /\.(md|markdown)$/i;
const TEXT = /\.(txt|csv|tsv|json|jsonl|py|sh|sql|ya?ml|toml|xml|html?|log|ini|js|ts|css)$/i;
const LONGEST = 200_000;

function MarkdownFile({ text }: { text: string }) {
  const { fields, body } = partFrontMatter(text);
  return (
    <>
      {fields.length > 0 && (
        <dl className="mb-5 grid grid-cols-[auto_1fr] gap-x-4 gap-y-0.5 border-b border-line pb-4 text-xs text-soft">
          {fields.map(([name, value]) => (
            <div key={name} className="contents">
              <dt className="font-medium">{name.replaceAll('_', ' ')}</dt>
              <dd className="wrap-anywhere">{value}</dd>
            </div>
          ))}
        </dl>
      )}
      <Markdown text={body} />
    </>
  );
}

function TextFile({ path }: { path: string }) {
  const { session } = useSessionFiles();
  const file = useQuery({ queryKey: ['text', session, path], queryFn: () => fetchBeginning(session, path, LONGEST) });
  if (file.error) return <ErrorNote error={file.error} />;
  if (!file.data) return <p className="text-soft">Loading…</p>;
  const { text, cut } = file.data;
  if (!text) return <p className="text-soft">The file is empty.</p>;
  const language = /\.(\w+)$/.exec(path)?.[1] ?? '';
  return (
    <>
      {MARKDOWN.test(path) ? <MarkdownFile text={text} /> : <CodeBlock code={text} language={language} />}
      {cut && <p className="mt-3 text-sm text-soft">This is the beginning; download the file for the rest.</p>}
    </>
  );
}

function Content({ path }: { path: string }) {
  if (PICTURE.test(path)) return <FileImage path={path} alt={path} />;
  if (MARKDOWN.test(path) || TEXT.test(path)) return <TextFile path={path} />;
  return <p className="text-soft">This kind of file can't be shown here; download it instead.</p>;
}

/** A file of the workspace over the page; empty `path` for none. */
export function FilePreview({ path, onClose }: { path: string; onClose: () => void }) {
  const { session } = useSessionFiles();
  return (
    <Dialog.Root open={path !== ''} onOpenChange={(open) => !open && onClose()}>
      <Dialog.Portal>
        <Dialog.Overlay className="fade-in fixed inset-0 z-50 bg-black/40" />
        <Dialog.Content
          aria-describedby={undefined}
          className="fade-in fixed top-1/2 left-1/2 z-50 flex max-h-[88dvh] w-[min(50rem,94vw)] -translate-x-1/2 -translate-y-1/2 flex-col rounded-2xl border border-line bg-card"
        >
          <header className="flex h-13 flex-none items-center gap-1 border-b border-line pr-2 pl-5">
            <Dialog.Title className="min-w-0 flex-1 truncate text-sm font-semibold">{path}</Dialog.Title>
            <IconButton label="Download" onClick={() => void downloadFile(session, path)}>
              <Download size={16} />
            </IconButton>
            <Dialog.Close asChild>
              <IconButton label="Close">
                <X size={17} />
              </IconButton>
            </Dialog.Close>
          </header>
          <div className="min-h-24 overflow-y-auto px-5 py-4">{path && <Content path={path} />}</div>
        </Dialog.Content>
      </Dialog.Portal>
    </Dialog.Root>
  );
}
