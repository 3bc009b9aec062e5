import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { CornerLeftUp, Download, File as FileIcon, Folder, Trash2, Upload } from 'lucide-react';
import { useRef, useState } from 'react';

import { downloadEntry, listEntries, removeEntry, uploadEntry, type Entry } from '@/api/sandboxes';
import { Button, IconButton } from '@/components/Button';
import { ErrorNote } from '@/components/ErrorNote';
import { formatSize } from '@/lib/format';

function above(path: string): string {
  return path.replace(/\/[^/]*$/, '') || '/';
}

function below(folder: string, name: string): string {
  return `${folder === '/' ? '' : folder}/${name}`;
}

/** Directories first, then by name. */
function inOrder(entries: Entry[]): Entry[] {
  const rank = ({ type }: Entry): number => (type === 'directory' ? 0 : 1);
  return entries.toSorted((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
}

interface RowProps {
  entry: Entry;
  onEnter: () => void;
  onDownload: () => void;
  onRemove: () => void;
}

function Row({ entry, onEnter, onDownload, onRemove }: RowProps) {
  const folder = entry.type === 'directory';
  return (
    <li className="flex items-center gap-2.5 border-b border-line py-0.5 last:border-0">
      <span className="flex-none text-soft" aria-hidden="true">
        {folder ? <Folder size={16} /> : <FileIcon size={16} />}
      </span>
      <button
        type="button"
        onClick={folder ? onEnter : onDownload}
        className="min-w-0 flex-1 truncate rounded text-left text-sm hover:text-accent hover:underline"
      >
        {entry.name}
      </button>
      {!folder && <span className="flex-none text-xs text-soft tabular-nums">{formatSize(entry.size)}</span>}
      {!folder && (
        <IconButton label={`Download ${entry.name}`} onClick={onDownload}>
          <Download size={15} />
        </IconButton>
      )}
      <IconButton label={`Remove ${entry.name}`} onClick={onRemove}>
        <Trash2 size={15} />
      </IconButton>
    </li>
  );
}

/** The file system inside: look around, take out, put in, remove. */
export function SandboxFiles({ sandbox, home }: { sandbox: string; home: string }) {
  const [path, setPath] = useState(home);
  const chosen = useRef<HTMLInputElement>(null);
  const client = useQueryClient();
  const key = ['sandbox-files', sandbox, path];
  const entries = useQuery({ queryKey: key, queryFn: () => listEntries(sandbox, path) });
  const refresh = { onSuccess: () => client.invalidateQueries({ queryKey: key }) };
  const upload = useMutation({ mutationFn: (file: File) => uploadEntry(sandbox, below(path, file.name), file), ...refresh });
  const remove = useMutation({ mutationFn: (entry: Entry) => removeEntry(sandbox, entry.path), ...refresh });
  const download = useMutation({ mutationFn: (entry: Entry) => downloadEntry(sandbox, entry) });
  const error = entries.error ?? upload.error ?? remove.error ?? download.error;
  return (
    <div className="space-y-3">
      <div className="flex items-center gap-1">
        <IconButton label="Directory above" disabled={path === '/'} onClick={() => setPath(above(path))}>
          <CornerLeftUp size={16} />
        </IconButton>
        <code className="min-w-0 flex-1 truncate text-sm">{path}</code>
        <input
          ref={chosen}
          type="file"
          aria-label="File to upload"
          className="hidden"
          onChange={({ target }) => {
            if (target.files?.[0]) upload.mutate(target.files[0]);
            target.value = '';
          }}
        />
        <Button disabled={upload.isPending} onClick={() => chosen.current?.click()}>
          <Upload size={15} aria-hidden="true" /> {upload.isPending ? 'Uploading…' : 'Upload'}
        </Button>
      </div>
      {error && <ErrorNote error={error} />}
      {entries.data?.length === 0 && <p className="text-sm text-soft">This directory is empty.</p>}
      <ul>
        {inOrder(entries.data ?? []).map((entry) => (
          <Row
            key={entry.path}
            entry={entry}
            onEnter={() => setPath(below(path, entry.name))}
            onDownload={() => download.mutate(entry)}
            onRemove={() => {
              if (confirm(`Remove ${entry.path}?`)) remove.mutate(entry);
            }}
          />
        ))}
      </ul>
    </div>
  );
}
