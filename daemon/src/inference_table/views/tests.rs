use super::*;

fn landing(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    folder
}

#[test]
fn every_table_with_files_gets_its_views_in_its_catalog() {
    let folder = landing(&[
        "catalog/schema/fraud_model_payload/date=2026-01-01/device=a/part-0-1-2.parquet",
        "catalog/schema/fraud_model_gaps/date=2026-01-01/device=a/part-0-3-3.parquet",
        "catalog/schema/empty_payload/date=2026-01-01/notes.txt",
        "catalog/schema/other/file.parquet",
    ]);
    let sql = views(folder.path()).unwrap();
    for view in ["payload", "ai_gateway", "legacy", "inference_log", "gaps"] {
        let create = format!("VIEW \"catalog\".\"schema\".\"fraud_model_{view}\"");
        assert_eq!(sql.matches(&create).count(), 1, "{sql}");
    }
    assert_eq!(sql.matches("CREATE SCHEMA").count(), 1);
    assert!(!sql.contains("empty"), "{sql}");
    assert!(!sql.contains("other"), "{sql}");
}

#[test]
fn catalogs_that_duckdb_keeps_get_another_database() {
    for catalog in ["main", "temp", "System"] {
        let folder = landing(&[&format!(
            "{catalog}/s/t_payload/date=2026-01-01/part-0-1-1.parquet"
        )]);
        let sql = views(folder.path()).unwrap();
        assert!(sql.contains(&format!("AS \"{catalog}_\";")), "{sql}");
        assert!(
            sql.contains(&format!("VIEW \"{catalog}_\".\"s\".\"t_payload\"")),
            "{sql}"
        );
        assert!(sql.contains(&format!("/{catalog}/s/t_payload/")), "{sql}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(views(&folder.path().join("nothing")).is_err());
}
