import { Download, FileArchive, FileImage as Picture, FileText, FileType } from 'lucide-react';

import { downloadArchive, downloadFile } from '@/api/files';
import type { FileRef } from '@/api/records';
import { Button, IconButton } from '@/components/Button';
import { useSessionFiles } from '@/components/session';
import { formatSize } from '@/lib/format';

function Icon({ file }: { file: FileRef }) {
  if (file.media_type.startsWith('image/')) return <Picture size={16} />;
  if (file.media_type.startsWith('text/')) return <FileText size={16} />;
  return <FileType size={16} />;
}

function Row({ file }: { file: FileRef }) {
  const { session, open } = useSessionFiles();
  return (
    <li className="flex items-center gap-2.5 border-b border-line py-1 last:border-0">
      <span className="flex-none text-soft" aria-hidden="true">
        <Icon file={file} />
      </span>
      <button type="button" onClick={() => open(file.path)} className="min-w-0 flex-1 truncate rounded text-left text-sm hover:text-accent hover:underline">
        {file.path}
      </button>
      <span className="flex-none text-xs text-soft tabular-nums">{formatSize(file.size)}</span>
      <IconButton label={`Download ${file.path}`} onClick={() => void downloadFile(session, file.path)}>
        <Download size={15} />
      </IconButton>
    </li>
  );
}

/** Files with their sizes, each to look at or to download, and all of them at once. */
export function FileList({ files }: { files: FileRef[] }) {
  const { session } = useSessionFiles();
  if (!files.length) return <p className="text-sm text-soft">No files yet.</p>;
  return (
    <>
      <ul>
        {files.map((file) => (
          <Row key={file.path} file={file} />
        ))}
      </ul>
      <Button className="mt-3" onClick={() => void downloadArchive(session)}>
        <FileArchive size={15} aria-hidden="true" /> Download all
      </Button>
    </>
  );
}
