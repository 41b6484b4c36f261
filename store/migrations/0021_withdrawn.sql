-- A version may be taken back although nothing was found wrong with it: with its group.
ALTER TABLE releases DROP CONSTRAINT releases_status_check;
ALTER TABLE releases ADD CONSTRAINT releases_status_check
    CHECK (status IN ('good', 'bad', 'withdrawn'));
