import { FileCheck2, LoaderCircle, X } from 'lucide-react';

import { ErrorNote } from '@/components/ErrorNote';
import { formatSize } from '@/lib/format';

import type { Upload } from './uploads';

function Chip({ upload, onRemove }: { upload: Upload; onRemove: () => void }) {
  const percent = Math.round(upload.part * 100);
  const sending = upload.state === 'sending';
  return (
    <li className="relative flex max-w-full items-center gap-2 overflow-hidden rounded-full border border-line bg-paper py-1 pr-1 pl-3 text-sm">
      <span className="flex-none text-soft" aria-hidden="true">
        {sending ? <LoaderCircle size={15} className="animate-spin" /> : <FileCheck2 size={15} />}
      </span>
      <span className="min-w-0 truncate">{upload.name}</span>
      <span className="flex-none text-xs text-soft tabular-nums">
        {sending ? (percent < 100 ? `${percent} %` : 'storing…') : formatSize(upload.size)}
      </span>
      <button
        type="button"
        aria-label={`Remove ${upload.name}`}
        onClick={onRemove}
        className="grid size-6 flex-none place-items-center rounded-full text-soft hover:bg-sunk hover:text-ink"
      >
        <X size={14} />
      </button>
      {sending && (
        <progress className="sr-only" max={100} value={percent} aria-label={`Uploading ${upload.name}`}>
          {percent} %
        </progress>
      )}
      {sending && <span className="absolute bottom-0 left-0 h-0.5 bg-brass-fill transition-[width]" style={{ width: `${percent}%` }} />}
    </li>
  );
}

/** The files that go with the next goal; those that failed say why. */
export function UploadChips({ uploads, onRemove }: { uploads: Upload[]; onRemove: (id: number) => void }) {
  const good = uploads.filter((upload) => upload.state !== 'failed');
  const failed = uploads.filter((upload) => upload.state === 'failed');
  return (
    <div className="space-y-2" data-testid="uploads">
      {failed.map((upload) => upload.error && <ErrorNote key={upload.id} error={upload.error} onClose={() => onRemove(upload.id)} />)}
      {good.length > 0 && (
        <ul className="flex flex-wrap gap-1.5" aria-label="Files for this goal">
          {good.map((upload) => (
            <Chip key={upload.id} upload={upload} onRemove={() => onRemove(upload.id)} />
          ))}
        </ul>
      )}
    </div>
  );
}
