-- What a search for labels and tags finds agents by, so that its time depends on its own workspace alone.
--
-- An index over labels or tags of all workspaces reads, for each trigram or tag, what every workspace holds
-- under it, and its statistics choose the plan by what others hold. btree_gin does not help: a column
-- `workspace_id` has a list of its own, and the lists of the trigrams stay global. A key here is a hash of the
-- workspace and the trigram or tag together, so each list in the index belongs to one workspace.

-- The keys of all substrings of three characters of a label, and of all tags. An agent whose label contains a
-- text and whose tags include others has all their keys. Hashes of 64 bits can collide, so a search compares the
-- label and tags themselves too. COST is measured: 5 µs for 17 characters.
--
-- Not PARALLEL SAFE: starting workers takes longer than any page of a list.
CREATE FUNCTION agent_search_keys(workspace_id uuid, label text, tags text[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE STRICT COST 500 AS $$
DECLARE
    label_seed CONSTANT bigint := uuid_hash_extended(workspace_id, 0);
    tag_seed   CONSTANT bigint := uuid_hash_extended(workspace_id, 1);
    keys       bigint[] := '{}';
    tag        text;
BEGIN
    FOR i IN 1 .. length(label) - 2 LOOP
        keys[i] := hashtextextended(substr(label, i, 3), label_seed);
    END LOOP;
    FOREACH tag IN ARRAY tags LOOP
        keys := keys || hashtextextended(tag, tag_seed);
    END LOOP;
    RETURN keys;
END
$$;

INSERT INTO schema_support VALUES (13, '{0,2,0}');
