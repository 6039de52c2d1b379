//! What each fault does to the processes and servers.

use crate::events::Event;
use crate::fault_profile::Fault;
use crate::redis::Redis;
use crate::simulation::{RELAYS, Server, Simulation};
use crate::time::MS;

impl Simulation {
    pub(crate) fn inject(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::Pause { process, duration } => self.processes[process].paused_until = now + duration,
            Fault::Restart { process } => self.restart(process),
            Fault::CutNats { process, duration } => self.processes[process].nats_cut_until = now + duration,
            Fault::Disconnect { process } => {
                // A process that leads receives its own messages without NATS.
                if self.processes[process].term.is_none() {
                    self.processes[process].window.close();
                }
            }
            Fault::CutRedis { process, duration } => self.processes[process].redis_cut_until = now + duration,
            Fault::Flush => self.server().memory.flush(),
            Fault::Evict { key } => self.server().memory.evict(key),
            Fault::EvictProof => self.server().memory.evict_proof(),
            Fault::RestartRedis => {
                let run = self.new_run();
                let server = self.server();
                server.memory = Redis::default();
                server.run = run;
                server.generation += 1;
            }
            Fault::Failover { zombie } => {
                let run = self.new_run();
                if !zombie {
                    self.server().generation += 1;
                }
                self.servers.push(Server { memory: self.replica.clone(), run, generation: 0 });
                self.current = self.servers.len() - 1;
            }
            Fault::Step { by } => {
                self.postgres.offset += by;
                self.checker.stepped(by, now);
            }
        }
    }

    fn restart(&mut self, p: usize) {
        self.processes[p].restart();
        self.checker.restarted(p);
        self.after(MS, Event::Sample(p));
        if p < RELAYS {
            self.after(10 * MS, Event::Relay(p));
        }
    }

    fn server(&mut self) -> &mut Server {
        &mut self.servers[self.current]
    }

    fn new_run(&self) -> u32 {
        self.servers.iter().map(|server| server.run).max().unwrap_or(0) + 1
    }
}
