import Foundation
import Testing

extension SystemTests.Escape {
  /// From one job to another, and to what listens on the host.
  @Suite struct Neighbours {
    @Test(.timeLimit(.minutes(10)))
    func `sockets, ports, queues, memory and files of others can't be reached`() async throws {
      let host = try EscapeHost.get()
      let listener = try RunningProgram([EscapeHost.payload, "listen"])
      defer { listener.terminate() }
      try await eventually("the host listens") { try listener.text().contains("listen\tdone") }
      let pid = try #require(try await host.neighbour.pids().first)
      let report = try await host.attack(["neighbour", host.neighbour.job.id, pid])
      #expect(report.job.status == "COMPLETED", "\(report)")
      expectRefused(
        report.outcomes,
        [
          "its abstract socket": "ECONNREFUSED", "the host's abstract socket": "ECONNREFUSED",
          "its TCP port": "ECONNREFUSED", "the API": "ECONNREFUSED", "the health port": "ECONNREFUSED",
          "its System V memory": "ENOENT", "its System V messages": "ENOENT", "signal to its host PID": "ESRCH",
          "its /proc": "ENOENT", "its workspace": "ENOENT", "its ring": "ENOENT", "its logs": "ENOENT",
          "its workspace beside /work": "ENOENT", "its workspace through PID 1": "ENOENT",
          "signal to everyone": "ESRCH",
        ])
      #expect(try !listener.text().contains("somebody connected"), "a job reached the host's abstract socket")
    }
  }
}
