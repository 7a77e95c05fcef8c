//! The contents of one run's store.

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::files::{Files, OpenFiles};
use super::limits::RESOURCES_MAX;
use super::network::Network;
use super::preopens::Preopens;
use super::quota::Quota;
use super::training::{Training, TrainingView};

/// The state of one run. It shares only the broker's vault, cache and audit log with other runs.
pub(super) struct RunState {
    pub(super) wasi: WasiCtx,
    pub(super) table: ResourceTable,
    pub(super) network: Network,
    pub(super) preopens: Preopens,
    pub(super) files: OpenFiles,
    pub(super) training: Training,
}

impl RunState {
    pub(super) fn new(wasi: WasiCtx, preopens: Preopens, network: Network, quota: Quota, training: Training) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self { wasi, table, preopens, network, files: OpenFiles::new(quota), training }
    }

    pub(super) fn files(&mut self) -> Files<'_> {
        let inner = WasiCtxView { ctx: &mut self.wasi, table: &mut self.table };
        Files {
            inner: wasmtime_wasi::filesystem::WasiFilesystemCtxView { ctx: inner.ctx.filesystem(), table: inner.table },
            preopens: &mut self.preopens,
            open: &mut self.files,
        }
    }
}

impl WasiView for RunState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl TrainingView for RunState {
    fn training(&mut self) -> &mut Training {
        &mut self.training
    }
}
