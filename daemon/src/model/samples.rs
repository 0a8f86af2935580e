//! The sample models, which are part of the binary.
//!
//! `daemon/samples/README.md` says what they are and how they were made.

use std::io;
use std::path::Path;

use edgeward_base::names::{ModelRef, ParseNameError};

/// A model version that the binary carries.
#[derive(Debug, Clone, Copy)]
pub struct SampleModel {
    /// The version, as `catalog.schema.model/version`.
    pub reference: &'static str,
    /// The files of its MLflow directory: name and bytes.
    pub files: &'static [(&'static str, &'static [u8])],
}

macro_rules! sample {
    ($reference:literal, $folder:literal) => {
        SampleModel {
            reference: $reference,
            files: &[
                sample!(file $folder, "MLmodel"),
                sample!(file $folder, "model.onnx"),
                sample!(file $folder, "golden.json"),
                sample!(file $folder, "input_example.json"),
                sample!(file $folder, "serving_input_example.json"),
            ],
        }
    };
    (file $folder:literal, $name:literal) => {
        ($name, include_bytes!(concat!("../../samples/", $folder, "/", $name)).as_slice())
    };
}

static SAMPLES: [SampleModel; 8] = [
    sample!("main.default.fraud/3", "fraud/3"),
    sample!("main.default.fraud/4", "fraud/4"),
    sample!("main.default.tumour/1", "tumour/1"),
    sample!("main.default.tumour/2", "tumour/2"),
    sample!("main.default.tumour/3", "tumour/3"),
    sample!("main.default.diabetes/1", "diabetes/1"),
    sample!("main.default.digits/1", "digits/1"),
    sample!("main.default.digits/2", "digits/2"),
];

/// Every sample model.
#[must_use]
pub fn samples() -> &'static [SampleModel] {
    &SAMPLES
}

impl SampleModel {
    /// The version, parsed.
    ///
    /// # Errors
    /// Never, for the samples of this module: a test reads them all.
    pub fn model(&self) -> Result<ModelRef, ParseNameError> {
        self.reference.parse()
    }

    /// Writes the model as an MLflow directory, which [`ModelStore::import`] takes. The directory is
    /// made when it is not there.
    ///
    /// [`ModelStore::import`]: super::ModelStore::import
    ///
    /// # Errors
    /// As the file system answers.
    pub fn write_to(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        for (name, bytes) in self.files {
            std::fs::write(directory.join(name), bytes)?;
        }
        Ok(())
    }

    /// A body for an invocation, to be shown to people: the serving example on one line.
    #[must_use]
    pub fn curl_body(&self) -> &'static str {
        self.files
            .iter()
            .find(|(name, _)| *name == super::version::SERVING_EXAMPLE)
            .and_then(|(_, bytes)| std::str::from_utf8(bytes).ok())
            .map_or("", str::trim)
    }
}
