-- What every later migration stands on: ids made by the database's clock, and the record of which
-- program versions may run on this schema.

-- A ULID as uuid: 48 bits of milliseconds, 12 bits for the microseconds within it, then chance, so that two
-- made one after the other are in order within a millisecond too. The variant bits of the random uuid stay in
-- it, which leaves 66 random bits within one microsecond.
CREATE FUNCTION new_ulid(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(microseconds / 1000), 12, '0') || lpad(to_hex(microseconds % 1000), 3, '0')
            || substr(replace(gen_random_uuid()::text, '-', ''), 16))::uuid
    FROM CAST(floor(extract(epoch FROM at) * 1000000) AS bigint) AS microseconds
$$;

-- Each migration writes here the oldest program that it still serves, as {major, minor, patch}.
CREATE TABLE schema_support (
    migration      bigint PRIMARY KEY,
    oldest_program int[]  NOT NULL CHECK (array_length(oldest_program, 1) = 3)
);

INSERT INTO schema_support VALUES (1, '{0,1,0}');
