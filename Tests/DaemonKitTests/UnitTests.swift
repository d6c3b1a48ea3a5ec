import DaemonKit
import FoundationEssentials
import Glibc
import JobletConfig
import Testing

@Suite struct UnitTests {
  let project = String(#filePath.dropLast("/Tests/DaemonKitTests/UnitTests.swift".count))

  private func unit(_ name: String) throws -> String {
    try String(contentsOfFile: "\(project)/units/\(name)", encoding: .utf8)
  }

  @Test func `the units as shipped need no drop-in`() {
    #expect(UnitDropIns.texts(Configuration()).values.allSatisfy { $0 == nil })
  }

  @Test func `the units as shipped listen where the default configuration says`() throws {
    let configuration = Configuration()
    let addresses = [
      "joblet-api.socket": "\(configuration.server.address):\(configuration.server.port)",
      "joblet-health.socket": "\(configuration.server.health.address):\(configuration.server.health.port)",
      "joblet-exec.socket": configuration.execSocket,
      "joblet-persist.socket": configuration.ipc.socket,
      "joblet-persist-query.socket": configuration.persist.server.querySocket,
    ]
    for (name, address) in addresses {
      #expect(try unit(name).contains("\nListenStream=\(address)\n"), "\(name)")
    }
    #expect(try unit("joblet-persist-query.socket").contains("Symlinks=\(configuration.persist.server.grpcSocket)\n"))
  }

  @Test(arguments: ["joblet-api.service", "joblet-exec.service", "joblet-persist.service"])
  func `every daemon is watched and started again for ever`(name: String) throws {
    let text = try unit(name)
    for line in [
      "Type=notify", "WatchdogSec=30s", "Restart=on-failure", "StartLimitIntervalSec=0", "PartOf=joblet.service",
    ] {
      #expect(text.contains("\n\(line)\n"), "\(line)")
    }
  }

  @Test func `a restart of the whole keeps the sockets, a stop closes them, a start that fails leaves them`() throws {
    let sockets = try FileManager.default.contentsOfDirectory(atPath: "\(project)/units").filter {
      $0.hasSuffix(".socket")
    }
    func values(_ key: String, _ name: String) throws -> [Set<String>] {
      try unit(name).split(separator: "\n").filter { $0.hasPrefix("\(key)=") }
        .map { Set($0.dropFirst(key.count + 1).split(separator: " ").map(String.init)) }
    }
    #expect(sockets.count == 5)
    for socket in sockets { #expect(try values("PartOf", socket).isEmpty, "\(socket)") }
    for key in ["Wants", "PropagatesStopTo"] {
      #expect(try values(key, "joblet-sockets.target") == [Set(sockets)], "\(key)")
    }
    #expect(try values("PartOf", "joblet-sockets.target") == [["joblet.service"]])
    #expect(try values("Wants", "joblet.service").contains { $0.contains("joblet-sockets.target") })
    // Where its own start can fail, each of these would stop the sockets, and with them the services, as soon as it does.
    for key in ["PropagatesStopTo", "Requires", "BindsTo"] {
      #expect(try values(key, "joblet.service").isEmpty, "\(key)")
    }
  }

  @Test func `certificates are renewed daily, with the rights they are made with`() throws {
    let timer = try unit("joblet-certs.timer")
    for line in [
      "Unit=joblet-certs-renew.service", "OnCalendar=daily", "RandomizedDelaySec=6h", "Persistent=yes",
      "WantedBy=timers.target",
    ] {
      #expect(timer.contains("\n\(line)\n"), "\(line)")
    }
    func settings(_ name: String) throws -> Set<Substring> {
      Set(try unit(name).split(separator: "\n").filter { !$0.hasPrefix("#") && !$0.hasPrefix("[") })
    }
    let made = try settings("joblet-certs.service")
    let renewed = try settings("joblet-certs-renew.service")
    // A timer starts nothing that is active.
    #expect(
      made.subtracting(renewed) == [
        "Description=Joblet certificates", "Before=joblet-api.service", "RemainAfterExit=yes",
        "ExecStart=/opt/joblet/bin/joblet-certs init",
      ])
    let note = "%t/joblet-certs/changed"
    let own = renewed.subtracting(made)
    #expect(own.contains("ExecStart=/opt/joblet/bin/joblet-certs init --changed \(note)"))
    #expect(own.contains("RuntimeDirectory=joblet-certs") && own.contains("RuntimeDirectoryPreserve=yes"))
    // The gateway reads them if there is something to read, and what says so goes after that.
    let reload = try #require(own.first { $0.hasPrefix("ExecStopPost=") })
    #expect(
      reload.hasSuffix(
        "'test -e \(note) || exit 0; systemctl try-reload-or-restart joblet-api.service; rm \(note)'"))
    #expect(reload.hasPrefix("ExecStopPost=+/bin/sh -ec "))
  }

  @Test func `the worker's unit sets nothing that jobs inherit`() throws {
    let settings = try unit("joblet-exec.service").split(separator: "\n").filter { !$0.hasPrefix("#") }
    let harmful = [
      "Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "SystemCall", "Restrict", "MemoryDeny", "OOMScore",
      "LockPersonality", "ProcSubset", "LimitNPROC", "Nice", "CPUScheduling", "Delegate",
    ]
    for line in settings { #expect(!harmful.contains { line.hasPrefix($0) }, "\(line)") }
    #expect(settings.contains("KillMode=process") && settings.contains("RuntimeDirectoryPreserve=yes"))
  }

  @Test func `a node that listens elsewhere gets drop-ins, and loses them again`() throws {
    let folder = "/tmp/joblet-units-\(getpid())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { do { try FileManager.default.removeItem(atPath: folder) } catch { Issue.record(error) } }
    var configuration = Configuration()
    configuration.server.address = "::"
    configuration.server.port = 443
    configuration.persist.storage.local.logs.directory = "/data/100%"
    configuration.filesystem.baseDir = "/fast/jobs"
    #expect(try UnitDropIns.write(configuration, to: folder).count == 3)
    let socket = try String(contentsOfFile: "\(folder)/joblet-api.socket.d/10-joblet-config.conf", encoding: .utf8)
    #expect(socket.hasSuffix("[Socket]\nListenStream=\nListenStream=[::]:443\n"))
    let service = try String(
      contentsOfFile: "\(folder)/joblet-persist.service.d/10-joblet-config.conf", encoding: .utf8)
    #expect(service.contains("ReadWritePaths=/data/100%% /opt/joblet/metrics /opt/joblet/persist"))
    let worker = try String(contentsOfFile: "\(folder)/joblet-exec.service.d/10-joblet-config.conf", encoding: .utf8)
    #expect(worker.hasSuffix("[Unit]\nRequiresMountsFor=/fast/jobs\n"))
    #expect(try UnitDropIns.write(configuration, to: folder).isEmpty)
    #expect(try UnitDropIns.write(Configuration(), to: folder).count == 3)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder).isEmpty)
  }
}
