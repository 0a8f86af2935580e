//! The backend node tests that the package `onnx` ships, on every engine compiled in.
//!
//! A case is a model of one operator, as its authors wrote it, with inputs and the outputs to give.
//! `tests/floors.toml` lists the cases that an engine passes, by name; the file of the engine's name
//! beside this one says why it does not pass each of the others. Both must be true to the case: a listed case
//! that fails is a failure, and so is one that passes and is not listed.
//!
//! `EDGEWARD_NODES=write` writes the lists as the run found them. A case that fails and that no
//! reason fits is never listed by itself: somebody has to give it a reason.

#[cfg(test)]
mod case;
#[cfg(test)]
mod engines;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod outcomes;
#[cfg(test)]
mod package;
#[cfg(test)]
mod protobuf;

#[cfg(test)]
mod tests {
    use edgeward_harness::{floors, skip};

    use crate::{case, engines, lists, outcomes, package};

    #[test]
    fn every_engine_passes_the_node_tests_that_are_listed() {
        let folder = match package::node_tests() {
            Ok(folder) => folder,
            Err(reason) => return skip("nodes", &reason),
        };
        let names = package::cases(&folder);
        let engines = engines::all();
        if engines.len() < 2 {
            skip(
                "nodes.burn-wgpu",
                "no Vulkan driver of this machine has an adapter to use",
            );
        }
        for engine in engines {
            let outcomes = outcomes::of(engine.name(), &folder, &names);
            lists::hold(engine.name(), &outcomes);
        }
        floors::reached("nodes.cases", names.len() as u64);
    }

    #[test]
    #[ignore = "the process that the other test starts and watches"]
    fn cases_in_a_process_of_their_own() {
        outcomes::tell(case::check);
    }
}
