"""SQL of somebody who means harm, drawn at random: `hostile(source)` gives one string.

Word soup, real queries with pieces knocked out, files and settings by every door that DuckDB has,
and bombs: of time, of memory, of one scalar call, of recursion, of nesting, of regular expressions.
"""

from pathlib import Path

WORDS = (Path(__file__).parents[1] / "golden" / "hostile_sql.txt").read_text().split("\n")

SOUP = (
    "SELECT {} FROM {} WHERE {}",
    "SELECT * FROM {}",
    "{} {} {}",
    "SELECT {}",
    "COPY ({}) TO '/tmp/sickbay-hostile'",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t) SELECT {} FROM t",
    "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE {}",
    "{}; {}",
)

# {n} is a number of any size, {f} a file that is there or is not, {e} an expression of this kind.
BOMBS = (
    "repeat('x', {n})",
    "repeat(repeat('x', {n}), {n})",
    "lpad('x', {n}, 'y')",
    "rpad('', {n}, repeat('z', 1000))",
    "length(repeat('ab', {n}))",
    "reverse(repeat('ab', {n}))",
    "upper(lpad('', {n}, 'ß'))",
    "md5(repeat('x', {n}))",
    "sha256(lpad('x', {n}, 'y'))",
    "base64(repeat('x', {n})::BLOB)",
    "hex(repeat('x', {n}))",
    "replace(repeat('a', {n}), 'a', repeat('b', 1000))",
    "translate(repeat('a', {n}), 'a', 'b')",
    "levenshtein(repeat('a', {n}), repeat('b', {n}))",
    "damerau_levenshtein(repeat('a', {n}), repeat('b', 1000))",
    "jaro_winkler_similarity(repeat('ab', {n}), repeat('ba', {n}))",
    "regexp_replace(repeat('a', {n}), '(a*)*b', 'x', 'g')",
    "regexp_matches(repeat('a', {n}), '(a|a|aa)+$')",
    "regexp_extract_all(repeat('ab', {n}), '(a)(b)')",
    "regexp_matches('a', '(((a{{1,1000}}){{1,1000}}){{1,1000}})')",
    "string_split(repeat('a,', {n}), ',')",
    "string_split_regex(repeat('ab', {n}), 'a|b')",
    "list_sort(range({n}))",
    "list_reverse_sort(list_transform(range({n}), lambda x: hash(x)))",
    "list_sum(range({n}))",
    "list_distinct(range({n}))",
    "list_transform(range({n}), lambda x: repeat('x', x))",
    "list_reduce(range({n}), lambda x, y: x + y)",
    "array_to_string(range({n}), repeat(',', 1000))",
    "flatten([range({n}), range({n})])",
    "list_resize([1], {n}, 0)",
    "range({n})",
    "range(0, {n}, 0)",
    "generate_series(-{n}, {n})",
    "printf('%{n}d', 1)",
    "printf('%0{n}.{n}f', 1.0)",
    "format('{{:>{n}}}', 'x')",
    "format('{{:.{n}f}}', 1.0)",
    "strftime(DATE '2026-01-01', repeat('%A', {n}))",
    "strptime(repeat('1', {n}), repeat('%Y', {n}))",
    "factorial({n})",
    "gcd({n}, {n})",
    "pow(10, {n})",
    "1e{n}",
    "{n}::HUGEINT * {n}::HUGEINT",
    "to_json(range({n}))",
    "json_extract(repeat('[', {n}) || repeat(']', {n}), '$[0]')",
    "bit_count(repeat('1', {n})::BIT)",
    "bar(1, 0, 1, {n})",
    "map_from_entries(list_zip(range({n}), range({n})))",
    "struct_pack(a := range({n}))",
    "unnest(range({n}))",
    "string_agg({e}, ',')",
    "list({e})",
    "count(DISTINCT {e})",
    "quantile_cont(random(), range({n}))",
    "histogram(random())",
    "concat({e}, {e})",
    "CASE WHEN random() < 2 THEN {e} END",
)
TABLES = (
    "trials",
    "epochs",
    "trials, epochs, findings",
    "range({n})",
    "range({n}) a, range({n}) b",
    "generate_series(1, {n}) a CROSS JOIN generate_series(1, {n}) b",
    "unnest(range({n}))",
    "(SELECT {e} AS x FROM range({n}))",
    "epochs a, epochs b, epochs c, epochs d, epochs e, epochs f, epochs g",
    "repeat_row(1, num_rows = {n})",
    "repeat('x', {n})",
    "summary(trials)",
    "query('SELECT {e}')",
    "query_table(['trials', 'epochs'])",
)
QUERIES = (
    "SELECT {e}",
    "SELECT {e} FROM {t}",
    "SELECT count(*) FROM {t} WHERE {e} IS NOT NULL",
    "SELECT count(*) FROM {t} ORDER BY {e}",
    "SELECT * FROM {t} ORDER BY random() LIMIT {n}",
    "SELECT arm, {e} FROM trials GROUP BY ALL",
    "SELECT sum(val_loss) OVER (ORDER BY random()) FROM epochs, {t}",
    "WITH RECURSIVE r(n, s) AS (SELECT 1, 'x' UNION ALL SELECT n + 1, s || s FROM r) FROM r",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n * 2 % {n} FROM r) SELECT count(*) FROM r",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT a.n FROM r a, r b) SELECT count(*) FROM r",
    "SELECT (SELECT {e} FROM {t} LIMIT 1)",
    "SELECT 1 WHERE EXISTS (SELECT {e} FROM {t})",
    "SELECT * FROM trials WHERE arm IN (SELECT {e} FROM range({n}))",
    "PIVOT (SELECT {e} AS x FROM {t}) ON x IN (1, 2) USING count(*)",
    "FROM {t} SELECT {e}",
    "SELECT {e}::VARCHAR::INT",
    "SELECT error({e}::VARCHAR)",
)
FILES = (
    "canary.csv",
    "./canary.csv",
    "/etc/passwd",
    "/proc/self/environ",
    "/proc/self/cmdline",
    "/proc/self/fd/0",
    "/dev/stdin",
    "/dev/zero",
    "~/.aws/credentials",
    "file:///etc/passwd",
    "https://example.com/x.csv",
    "s3://bucket/x.parquet",
    "hf://datasets/x/y.csv",
    "*/**/*",
    "/tmp/sickbay-hostile",
)
DOORS = (
    "SELECT * FROM '{f}'",
    "SELECT * FROM read_csv('{f}')",
    "SELECT * FROM read_csv_auto('{f}', all_varchar = true)",
    "SELECT * FROM read_text('{f}')",
    "SELECT * FROM read_blob('{f}')",
    "SELECT * FROM read_json('{f}')",
    "SELECT * FROM read_json_objects('{f}')",
    "SELECT * FROM read_ndjson_auto('{f}')",
    "SELECT * FROM read_parquet('{f}')",
    "SELECT * FROM parquet_scan('{f}')",
    "SELECT * FROM parquet_metadata('{f}')",
    "SELECT * FROM parquet_schema('{f}')",
    "SELECT * FROM parquet_kv_metadata('{f}')",
    "SELECT * FROM sniff_csv('{f}')",
    "SELECT * FROM glob('{f}')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM arrow_scan_dumb({n}, {n}, {n})",
    "SELECT * FROM pandas_scan({n})",
    "SELECT * FROM python_map_function()",
    "SELECT * FROM seq_scan('{f}')",
    "SELECT * FROM sqlite_scan('{f}', 't')",
    "SELECT * FROM postgres_scan('', '', '')",
    "SELECT * FROM iceberg_scan('{f}')",
    "SELECT * FROM st_read('{f}')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets(redact = false)",
    "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM duckdb_logs",
    "SELECT * FROM duckdb_temporary_files()",
    "SELECT * FROM pragma_database_list()",
    "SELECT * FROM which_secret('{f}', 's3')",
    "SELECT * FROM query('SELECT * FROM read_text(''{f}'')')",
    "SELECT * FROM query_table('{f}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM ''{f}'''))",
    "SELECT content FROM read_text(getvariable('x'))",
    "SELECT getenv('HOME'), getenv('AWS_SECRET_ACCESS_KEY')",
    "SELECT current_setting('{s}')",
    "SELECT parse_path('{f}'), file_exists('{f}')",
    "SELECT write_log('x', log_type := 'FileSystem')",
    "SELECT nextval('s'), txid_current(), current_database()",
    "COPY (SELECT {e}) TO '{f}'",
    "COPY trials FROM '{f}'",
    "COPY trials TO '{f}' (FORMAT parquet)",
    "EXPORT DATABASE '{f}'",
    "IMPORT DATABASE '{f}'",
    "ATTACH '{f}' AS x",
    "ATTACH ':memory:' AS x (TYPE sqlite)",
    "DETACH memory",
    "INSTALL httpfs FROM '{f}'",
    "LOAD '{f}'",
    "SET {s} = '{f}'",
    "SET GLOBAL {s} = {n}",
    "RESET {s}",
    "PRAGMA {s}",
    "PRAGMA {s} = '{f}'",
    "CALL enable_logging('FileSystem', storage_path = '{f}')",
    "CREATE SECRET (TYPE s3, KEY_ID 'x')",
    "CREATE MACRO m() AS TABLE SELECT * FROM '{f}'",
    "CREATE TABLE t AS SELECT {e} AS x FROM {t}",
    "CREATE FUNCTION f() AS {e}",
    "INSERT INTO trials SELECT * FROM '{f}'",
    "EXPLAIN ANALYZE SELECT {e}",
    "EXPLAIN (FORMAT json) SELECT {e} FROM '{f}'",
    "PREPARE p AS SELECT {e}",
    "EXECUTE p({n})",
    "CHECKPOINT; VACUUM; FORCE CHECKPOINT",
    "BEGIN; SET {s} = '{f}'; COMMIT",
    "SELECT 1; COPY (SELECT {e}) TO '{f}'",
    "DESCRIBE SELECT * FROM '{f}'",
    "SUMMARIZE '{f}'",
    "WITH x AS MATERIALIZED (SELECT * FROM '{f}') SELECT * FROM x",
    "SELECT * FROM trials POSITIONAL JOIN '{f}'",
)
SETTINGS = (
    "enable_external_access",
    "lock_configuration",
    "temp_directory",
    "home_directory",
    "extension_directory",
    "secret_directory",
    "allowed_directories",
    "allowed_paths",
    "allow_unsigned_extensions",
    "autoload_known_extensions",
    "custom_extension_repository",
    "enable_profiling",
    "profiling_output",
    "log_query_path",
    "max_expression_depth",
    "memory_limit",
    "threads",
    "python_enable_replacements",
    "python_scan_all_frames",
    "disabled_filesystems",
)
NESTS = (("(", "1", ")"), ("[", "1", "]"), ("{'a': ", "1", "}"), ("NOT ", "true", ""))
NESTS += (("-", "1", ""), ("abs(", "1", ")"), ("(SELECT ", "1", ")"), ("1 + ", "1", ""))
NESTS += (("CASE WHEN true THEN ", "1", " END"), ("$$", "", "$$"), ("/*", "", "*/"))


def hostile(source):
    """A string of SQL, or of what looks like it."""
    kind = source.choices(
        ("soup", "door", "query", "nest", "wreck", "long"), (30, 30, 16, 6, 15, 3)
    )
    if kind == ["soup"]:
        shape = source.choice(SOUP)
        holes = shape.count("{}")
        phrases = (" ".join(source.choices(WORDS, k=source.randint(1, 6))) for _ in range(holes))
        return shape.format(*phrases)
    if kind == ["nest"]:
        before, inner, after = source.choice(NESTS)
        times = source.choice((5, 50, 500, 5000))
        return f"SELECT {before * times}{inner}{after * times}"
    if kind == ["long"]:
        pieces = source.choice(
            ("1,", "'x',", "1+", "arm,", "(SELECT 1),", "1 OR ", "\x00", "'" * 3)
        )
        return f"SELECT {pieces * source.randint(10, 90_000 // len(pieces))}1 FROM trials"
    text = filled(source, source.choice(DOORS if kind == ["door"] else QUERIES))
    return wrecked(source, text) if kind == ["wreck"] else text


def filled(source, text, depth=0):
    """Put something hostile into every hole of a template."""
    while True:
        place = min((text.find(hole) for hole in HOLES if hole in text), default=-1)
        if place < 0:
            return text
        hole = text[place : place + 3]
        text = text[:place] + HOLES[hole](source, depth) + text[place + 3 :]
        depth += hole in ("{e}", "{t}")


def number(source, depth):
    """Mostly a size that hurts, also none, a negative one, and one beyond 64 bits."""
    del depth
    if source.random() < 0.15:
        return source.choice(("0", "-1", "NULL", str(2**31), str(2**63), str(2**127), "1e400"))
    return str(int(10 ** source.uniform(0, 10)))


HOLES = {
    "{n}": number,
    "{f}": lambda source, _: source.choice(FILES),
    "{s}": lambda source, _: source.choice(SETTINGS),
    "{t}": lambda source, depth: source.choice(TABLES[:2] if depth > 4 else TABLES),
    "{e}": lambda source, depth: source.choice(BOMBS[:2] if depth > 4 else BOMBS),
}


def wrecked(source, text):
    """A query with pieces knocked out, doubled, or put in from elsewhere."""
    for _ in range(source.randint(1, 5)):
        start = source.randint(0, len(text))
        end = min(len(text), start + source.choice((0, 1, 1, 2, 10)))
        piece = source.choice(("", "", text[start:end] * 2, source.choice(WORDS), chr(0x1F600)))
        text = text[:start] + piece + text[end:]
    return text
