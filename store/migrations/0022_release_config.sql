-- The configuration that a version ran with belongs to it: the same image with another one is
-- another version. '[]' is a version whose configuration nobody versioned.
ALTER TABLE releases ADD COLUMN config jsonb NOT NULL DEFAULT '[]';
ALTER TABLE releases DROP CONSTRAINT releases_service_environment_image_run_id_status_key;
ALTER TABLE releases ADD UNIQUE (service, environment, image, run_id, status, config);

CREATE OR REPLACE FUNCTION fermata_doc(l releases) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'service', l.service, 'environment', l.environment, 'image', l.image, 'sha', l.sha,
        'run_id', l.run_id, 'status', l.status, 'reason', l.reason, 'at', l.at,
        'config', l.config);
$$;

-- Where one of two configurations is not known, only the image counts.
CREATE FUNCTION fermata_same_config(one jsonb, other jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT one = other OR one = '[]' OR other = '[]';
$$;
