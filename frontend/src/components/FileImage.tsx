import { useQuery } from '@tanstack/react-query';
import { ImageOff } from 'lucide-react';
import { useEffect, useState } from 'react';

import { fetchBlob, fileUrl, linksWork } from '@/api/files';

import { useSessionFiles } from './session';

interface FileImageProps {
  path: string;
  alt: string;
  className?: string;
}

/** The address of a picture; with a key, its bytes are fetched, since `src` can carry none. */
function useImageUrl(session: string, path: string): { url: string; failed: boolean } {
  const direct = linksWork();
  const blob = useQuery({
    queryKey: ['blob', session, path],
    queryFn: () => fetchBlob(session, path),
    enabled: !direct,
    staleTime: 60_000,
  });
  const [made, setMade] = useState('');
  useEffect(() => {
    if (!blob.data) return undefined;
    const address = URL.createObjectURL(blob.data);
    setMade(address);
    return () => URL.revokeObjectURL(address);
  }, [blob.data]);
  return { url: direct ? fileUrl(session, path) : made, failed: blob.isError };
}

/** A picture of the session's workspace; keeps its place while it loads and says so when it can't be shown. */
export function FileImage({ path, alt, className = '' }: FileImageProps) {
  const { session } = useSessionFiles();
  const { url, failed } = useImageUrl(session, path);
  const [state, setState] = useState<'loading' | 'loaded' | 'broken'>('loading');
  if (failed || state === 'broken')
    return (
      <span className="flex items-center gap-2 rounded-lg bg-sunk p-4 text-sm text-soft">
        <ImageOff size={16} aria-hidden="true" /> {path} can't be shown.
      </span>
    );
  const place = state === 'loading' ? 'aspect-[8/5] w-full bg-sunk' : '';
  return (
    <img
      src={url || undefined}
      alt={alt}
      onLoad={() => setState('loaded')}
      onError={() => setState('broken')}
      className={`max-w-full rounded-lg bg-white ${place} ${className}`}
    />
  );
}
