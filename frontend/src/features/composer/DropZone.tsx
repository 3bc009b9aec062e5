import { Upload } from 'lucide-react';
import { useRef, useState, type DragEvent, type ReactNode } from 'react';

const hasFiles = (event: DragEvent): boolean => event.dataTransfer.types.includes('Files');

/** Takes files dropped anywhere on its content. */
export function DropZone({ onFiles, className, children }: { onFiles: (files: File[]) => void; className: string; children: ReactNode }) {
  const [over, setOver] = useState(false);
  // Children send enter and leave of their own; only the balance tells whether the pointer is inside.
  const depth = useRef(0);
  const enter = (event: DragEvent, step: number) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth.current += step;
    setOver(depth.current > 0);
  };
  const drop = (event: DragEvent) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth.current = 0;
    setOver(false);
    onFiles([...event.dataTransfer.files]);
  };
  return (
    <div
      className={`relative ${className}`}
      onDragEnter={(event) => enter(event, 1)}
      onDragLeave={(event) => enter(event, -1)}
      onDragOver={(event) => hasFiles(event) && event.preventDefault()}
      onDrop={drop}
    >
      {children}
      {over && (
        <div className="pointer-events-none absolute inset-3 z-30 grid place-items-center rounded-3xl border-2 border-dashed border-accent bg-paper/90">
          <p className="flex items-center gap-3 font-serif text-xl">
            <Upload size={22} aria-hidden="true" /> Drop the files here
          </p>
        </div>
      )}
    </div>
  );
}
