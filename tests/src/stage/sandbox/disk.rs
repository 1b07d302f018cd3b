//! A disk of the proxy's own, so small that a test can fill it to the last byte.

use assay_core::{
    control::proxy::ProxyAssignment,
    egress::PROXY_UID,
    ledger::{self, Entry},
};

use super::Stage;

impl Stage {
    /// Lets another proxy begin, its log and audit on a disk of so many KiB. The one before is killed.
    ///
    /// The disk is seen in the sandbox's own mount namespace alone and goes with it.
    pub fn begin_on_disk(
        &mut self,
        kibibytes: u64,
        change: impl FnOnce(&mut ProxyAssignment),
    ) -> anyhow::Result<()> {
        self.kill_proxy()?;
        let mut assignment = self.assignment()?;
        change(&mut assignment);
        self.write_assignment(&assignment)?;
        let state = self.path("proxy/state");
        self.operator(&format!(
            "mount -t tmpfs -o size={kibibytes}k,mode=0700,uid={PROXY_UID},gid={PROXY_UID} none {}",
            state.display()
        ))?;
        self.start_proxy()
    }

    /// Fills that disk to the last byte that a new file can have.
    pub fn fill_disk(&self) -> anyhow::Result<()> {
        self.operator(&format!("cat /dev/zero >{} 2>/dev/null || true", self.filler()))?;
        Ok(())
    }

    /// Makes room again.
    pub fn empty_disk(&self) -> anyhow::Result<()> {
        self.operator(&format!("rm {}", self.filler()))?;
        Ok(())
    }

    /// What can be read of the write-ahead log as it lies on the disk.
    pub fn log_on_disk(&self) -> anyhow::Result<Vec<Entry>> {
        let log = self.operator(&format!(
            "cat {}",
            self.path("proxy/state/ledger.jsonl").display()
        ))?;
        Ok(ledger::log::read(log.as_bytes()))
    }

    fn filler(&self) -> String {
        self.path("proxy/state/filler").display().to_string()
    }
}
