-- What the file of a submitted job was when it was whole: by that a job is known again whose file was given another name.
CREATE TABLE file_mark (
    mark TEXT NOT NULL,                   -- inode.size.mtime.checksum of its beginning (shared_disk/file_mark.py)
    job_uid TEXT NOT NULL,
    PRIMARY KEY (mark, job_uid)
) WITHOUT ROWID;
