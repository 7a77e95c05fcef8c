//! Everything that a component can be linked with. An interface that is not added here is not
//! available to it.

use wasmtime::Engine;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sockets};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi_io::bindings::wasi::io;

use super::files::GuardedFilesystem;
use super::state::RunState;
use super::{network, training};

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Returns the linker of all runs. Each interface is added by name, so an interface that a later
/// engine adds is not linked automatically.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<RunState>> {
    let mut linker = Linker::<RunState>::new(engine);
    let l = &mut linker;
    io::error::add_to_linker::<RunState, Io>(l, |state| &mut state.table)?;
    io::poll::add_to_linker::<RunState, Io>(l, |state| &mut state.table)?;
    io::streams::add_to_linker::<RunState, Io>(l, |state| &mut state.table)?;
    clocks::wall_clock::add_to_linker::<RunState, WasiClocks>(l, |state| state.clocks())?;
    clocks::monotonic_clock::add_to_linker::<RunState, WasiClocks>(l, |state| state.clocks())?;
    random::random::add_to_linker::<RunState, WasiRandom>(l, |state| state.random())?;
    random::insecure::add_to_linker::<RunState, WasiRandom>(l, |state| state.random())?;
    random::insecure_seed::add_to_linker::<RunState, WasiRandom>(l, |state| state.random())?;
    cli::exit::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    cli::environment::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    cli::stdin::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    cli::stdout::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    cli::stderr::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    cli::terminal_input::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    cli::terminal_output::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    cli::terminal_stdin::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    cli::terminal_stdout::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    cli::terminal_stderr::add_to_linker::<RunState, WasiCli>(l, |state| state.cli())?;
    filesystem::preopens::add_to_linker::<RunState, GuardedFilesystem>(l, RunState::files)?;
    filesystem::types::add_to_linker::<RunState, GuardedFilesystem>(l, RunState::files)?;
    sockets::instance_network::add_to_linker::<RunState, WasiSockets>(l, |state| state.sockets())?;
    sockets::network::add_to_linker::<RunState, WasiSockets>(l, &network_options(), |state| state.sockets())?;
    sockets::tcp::add_to_linker::<RunState, WasiSockets>(l, |state| state.sockets())?;
    sockets::tcp_create_socket::add_to_linker::<RunState, WasiSockets>(l, |state| state.sockets())?;
    sockets::udp::add_to_linker::<RunState, WasiSockets>(l, |state| state.sockets())?;
    sockets::udp_create_socket::add_to_linker::<RunState, WasiSockets>(l, |state| state.sockets())?;
    network::add_lookup(l, |state| (&state.network, &mut state.table))?;
    training::add_to_linker(l)?;
    Ok(linker)
}

fn network_options() -> sockets::network::LinkOptions {
    sockets::network::LinkOptions::default()
}
