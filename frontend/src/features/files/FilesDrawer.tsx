import { useQuery } from '@tanstack/react-query';

import { listFiles } from '@/api/files';
import { Drawer } from '@/components/Drawer';
import { ErrorNote } from '@/components/ErrorNote';
import { useSessionFiles } from '@/components/session';

import { FileList } from './FileList';

interface FilesDrawerProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
}

/** All files of the session's workspace. */
export function FilesDrawer({ open, onOpenChange }: FilesDrawerProps) {
  const { session } = useSessionFiles();
  const files = useQuery({ queryKey: ['files', session], queryFn: () => listFiles(session), enabled: open });
  return (
    <Drawer open={open} onOpenChange={onOpenChange} side="right" title="Files">
      <div className="px-5 pb-5">
        {files.error && <ErrorNote error={files.error} />}
        {files.data && <FileList files={files.data} />}
      </div>
    </Drawer>
  );
}
