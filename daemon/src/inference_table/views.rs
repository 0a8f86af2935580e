//! SQL that makes a folder of tables look like tables.
//!
//! Owns the text that `edgeward logs views` prints for DuckDB. It works on a landing folder and on
//! this box's own `{rows}/parquet`, and creates for each inference table `{prefix}`:
//!
//! | view | columns |
//! |---|---|
//! | `{prefix}_payload` | all of them |
//! | `{prefix}_ai_gateway` | those of an AI gateway inference table |
//! | `{prefix}_legacy` | those of an inference table made by `auto_capture_config` |
//! | `{prefix}_inference_log` | for monitoring: `timestamp` (UTC), `latency_ms`, `status_code`, who answered |
//! | `{prefix}_gaps` | what was not logged, and why |
//!
//! Catalogs become in-memory databases that are attached; nothing is written anywhere.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use edgeward_base::names::TableName;
use edgeward_wire::segment::SegmentKind;

#[cfg(test)]
mod tests;

const AI_GATEWAY: &str = "databricks_request_id, request_date, client_request_id, request_time, \
    status_code, sampling_fraction, execution_duration_ms, request, response, \
    logging_error_codes, served_entity_id, requester";

const LEGACY: &str = "client_request_id, databricks_request_id, request_date AS date, \
    epoch_ms(request_time) AS timestamp_ms, status_code, sampling_fraction, \
    execution_duration_ms AS execution_time_ms, request, response, request_metadata";

/// The time comes without a zone, so that days are UTC days wherever the query runs.
const MONITORING: &str = "make_timestamp(epoch_us(request_time)) AS \"timestamp\", \
    execution_duration_us / 1000.0 AS latency_ms, status_code, endpoint_name, \
    served_entity_name, entity_name AS model_name, entity_version AS model_version, \
    requester, databricks_request_id, request, response";

/// Database names that DuckDB keeps for itself. `main` is its default schema.
const RESERVED: [&str; 3] = ["main", "system", "temp"];

/// The DuckDB database of a catalog: its own name, or with `_` behind it where DuckDB keeps that.
fn database_of(catalog: &str) -> String {
    let kept = RESERVED
        .iter()
        .any(|name| catalog.eq_ignore_ascii_case(name));
    format!("{catalog}{}", if kept { "_" } else { "" })
}

/// A table that has files.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Landed {
    table: TableName,
    kind: SegmentKind,
}

/// The views of every table below `folder`.
///
/// # Errors
/// Whatever reading the folder answers; a folder that is not there is one.
pub fn views(folder: &Path) -> io::Result<String> {
    let folder = folder.canonicalize()?;
    let mut sql = String::from("-- Views of inference tables, for DuckDB.\n");
    let mut schemas = BTreeSet::new();
    for landed in landed_tables(&folder)? {
        let (catalog, schema, prefix) = landed.table.parts();
        let database = database_of(catalog);
        if schemas.insert((catalog.to_owned(), schema.to_owned())) {
            line(
                &mut sql,
                &format!("ATTACH IF NOT EXISTS ':memory:' AS \"{database}\";"),
            );
            line(
                &mut sql,
                &format!("CREATE SCHEMA IF NOT EXISTS \"{database}\".\"{schema}\";"),
            );
        }
        let files = folder.join(catalog).join(schema);
        let files = format!(
            "'{}/{prefix}_{}/**/*.parquet'",
            files.display().to_string().replace('\'', "''"),
            landed.kind.suffix()
        );
        let mut view = |name: &str, columns: &str| {
            line(
                &mut sql,
                &format!(
                    "CREATE OR REPLACE VIEW \"{database}\".\"{schema}\".\"{prefix}_{name}\" AS\n  \
                 SELECT {columns}\n  FROM read_parquet({files}, hive_partitioning = false);"
                ),
            );
        };
        match landed.kind {
            SegmentKind::Rows => {
                view("payload", "*");
                view("ai_gateway", AI_GATEWAY);
                view("legacy", LEGACY);
                view("inference_log", MONITORING);
            }
            SegmentKind::Gaps => view("gaps", "*"),
        }
    }
    Ok(sql)
}

fn line(sql: &mut String, text: &str) {
    sql.push_str(text);
    sql.push('\n');
}

/// The tables below `folder` that hold at least one Parquet file: DuckDB refuses a view of none.
fn landed_tables(folder: &Path) -> io::Result<BTreeSet<Landed>> {
    let mut tables = BTreeSet::new();
    for catalog in folders(folder)? {
        for schema in folders(&folder.join(&catalog))? {
            let within = folder.join(&catalog).join(&schema);
            for name in folders(&within)? {
                let kind = [SegmentKind::Rows, SegmentKind::Gaps]
                    .into_iter()
                    .find_map(|kind| {
                        Some((kind, name.strip_suffix(kind.suffix())?.strip_suffix('_')?))
                    });
                let Some((kind, prefix)) = kind else { continue };
                let Ok(table) = TableName::new(&catalog, &schema, prefix) else {
                    continue;
                };
                if holds_parquet(&within.join(&name))? {
                    tables.insert(Landed { table, kind });
                }
            }
        }
    }
    Ok(tables)
}

fn folders(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

fn holds_parquet(folder: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_parquet = entry.path().extension().is_some_and(|end| end == "parquet");
        if is_parquet || (entry.file_type()?.is_dir() && holds_parquet(&entry.path())?) {
            return Ok(true);
        }
    }
    Ok(false)
}
