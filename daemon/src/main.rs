//! The binary: everything is in the library.

use std::process::ExitCode;

use edgeward_kernels::memory::Allocator;

/// A request allocates on its own thread and its row is freed on the writer's, and tract asks for
/// many small aligned tensors: the C library's allocator is slow at both. Without huge pages, which
/// would more than double the memory of an idle process (`ARCHITECTURE.md`, decision 16).
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    edgeward::cli::main()
}
