-- The same words by plain expressions, which Postgres takes into the column: a query
-- inside cost more for each VM than all else in its row. The text of a JSON array holds
-- its strings between quotes, and a quote of a string's own never without a backslash.
create or replace function vm_words(
    name text, title text, description text, uuid uuid, hardware jsonb
)
returns text language sql immutable parallel safe as $$
    select lower(
        name || e'\n' || title || e'\n' || description || e'\n' || uuid::text
        || e'\n' || coalesce(replace(replace(replace(replace(replace(rtrim(ltrim((
            jsonb_path_query_array(hardware, '$.disks[*].path ? (@ != null)')
            || jsonb_path_query_array(hardware, '$.networks[*].mac.address ? (@ != null)')
            || jsonb_path_query_array(hardware, '$.networks[*].source.* ? (@ != null)')
            || jsonb_path_query_array(hardware, '$.networks[*].target.dev ? (@ != null)')
        )::text, '['), ']'), '", "', e'\n'), '\"', e'\1'), '"', ''), e'\1', '"'), '\\', '\'), '')
    )
$$;
