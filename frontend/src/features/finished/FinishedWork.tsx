import * as Tabs from '@radix-ui/react-tabs';
import { useQuery } from '@tanstack/react-query';
import type { ReactNode } from 'react';

import { fetchText } from '@/api/files';
import type { FileRef } from '@/api/records';
import { ErrorNote } from '@/components/ErrorNote';
import { FileImage } from '@/components/FileImage';
import { Markdown } from '@/components/Markdown';
import { useSessionFiles } from '@/components/session';
import { fileName } from '@/lib/format';

export const REPORT = 'report.md';

/**
 * Whose `report.md` is: this run's own, that of a later run which wrote over it, or unknown while later runs are still
 * being replayed.
 */
export type ReportOwner = 'own' | 'replaced' | 'unknown';

/** A report that was read while it was the run's own stays, whatever happens to the file. */
function Report({ version, owner }: { version: string; owner: ReportOwner }) {
  const { session } = useSessionFiles();
  const report = useQuery({
    queryKey: ['report', session, version],
    queryFn: () => fetchText(session, REPORT),
    staleTime: Infinity,
    enabled: owner === 'own',
  });
  if (report.error) return <ErrorNote error={report.error} />;
  if (report.data !== undefined)
    return (
      <article data-testid="report">
        <Markdown text={report.data} className="max-w-[70ch] text-[1.02rem]" />
      </article>
    );
  if (owner === 'replaced')
    return <p className="text-sm text-soft">A later goal of this session wrote its own report in place of this one.</p>;
  return <p className="min-h-40 text-soft">Loading the report…</p>;
}

function Charts({ charts }: { charts: FileRef[] }) {
  const { open } = useSessionFiles();
  return (
    <ul className="grid gap-4 sm:grid-cols-2">
      {charts.map(({ path }) => (
        <li key={path}>
          <button type="button" onClick={() => open(path)} className="block w-full rounded-lg">
            <FileImage path={path} alt={fileName(path)} className="aspect-[4/3] w-full border border-line object-contain p-1" />
          </button>
          <p className="mt-1 truncate text-xs text-soft">{fileName(path)}</p>
        </li>
      ))}
    </ul>
  );
}

interface Pane {
  name: string;
  content: ReactNode;
}

interface FinishedWorkProps {
  files: FileRef[];
  /** Changes when the files may have. */
  version: string;
  /** The list of files, made by whoever knows how. */
  list: ReactNode;
  reportOwner: ReportOwner;
}

function panesOf({ files, version, list, reportOwner }: FinishedWorkProps): Pane[] {
  const charts = files.filter(({ path }) => path.startsWith('charts/') && /\.(png|svg|jpe?g|webp)$/i.test(path));
  const panes: Pane[] = [];
  if (files.some(({ path }) => path === REPORT))
    panes.push({ name: 'Report', content: <Report version={version} owner={reportOwner} /> });
  if (charts.length) panes.push({ name: `Charts (${charts.length})`, content: <Charts charts={charts} /> });
  panes.push({ name: `Files (${files.length})`, content: list });
  return panes;
}

/** What the run hands back: the report with its charts, and every file. */
export function FinishedWork(props: FinishedWorkProps) {
  const panes = panesOf(props);
  return (
    <section aria-label="Finished work" data-testid="finished" className="rounded-2xl border border-line bg-card">
      <Tabs.Root defaultValue={panes[0]?.name ?? ''}>
        <Tabs.List aria-label="Finished work" className="flex gap-1 border-b border-line px-3 pt-2">
          {panes.map(({ name }) => (
            <Tabs.Trigger
              key={name}
              value={name}
              className="-mb-px rounded-t-lg border-b-2 border-transparent px-3 py-2 text-sm font-medium text-soft data-[state=active]:border-accent data-[state=active]:text-ink"
            >
              {name}
            </Tabs.Trigger>
          ))}
        </Tabs.List>
        {panes.map(({ name, content }) => (
          <Tabs.Content key={name} value={name} className="px-5 py-5 sm:px-7">
            {content}
          </Tabs.Content>
        ))}
      </Tabs.Root>
    </section>
  );
}
