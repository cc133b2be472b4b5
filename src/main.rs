//! The program: parse arguments, dispatch. Nothing to test here.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tollgate::app::small_pages();
    tollgate::app::lean_heap();
    tollgate::cli::run()
}
