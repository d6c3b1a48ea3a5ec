import DaemonKit
import FoundationEssentials
import Glibc
import JobletConfig
import Testing

@Suite struct ListenTests {
  @Test(arguments: [
    ("unix:/run/x.sock", ListenAddress.unix("/run/x.sock")),
    ("tcp:127.0.0.1:50051", .tcp(address: "127.0.0.1", port: 50051)),
    ("tcp:[::1]:0", .tcp(address: "::1", port: 0)),
  ])
  func `addresses are read and printed`(text: String, address: ListenAddress) {
    #expect(ListenAddress(text) == address)
    #expect(address.description == text)
  }

  @Test(arguments: [
    "", "unix:", "unix:relative", "tcp:", "tcp:1", "tcp::1", "tcp:localhost:80", "tcp:1.2.3.4:99999", "tcp:1.2.3.4:-1",
    "udp:1.2.3.4:5", "unix:/" + String(repeating: "x", count: 107),
  ])
  func `other addresses are refused`(text: String) { #expect(ListenAddress(text) == nil) }

  @Test(arguments: ["", "api", "=unix:/x", "api=", "api=/x"]) func `a wrong option says what is allowed`(text: String) {
    #expect {
      try ListenOption(text)
    } throws: {
      "\($0)".contains("unix:/absolute/path")
    }
  }

  @Test func `sockets are made, known by name, and not taken twice`() throws {
    let path = "/tmp/joblet-listen-\(getpid()).sock"
    defer { unlink(path) }
    let expected = [
      ExpectedListener(name: "query", address: .unix("/opt/joblet/run/q.sock")),
      ExpectedListener(name: "health", address: .tcp(address: "127.0.0.1", port: 9090)),
    ]
    let options = [
      try ListenOption("query=unix:\(path)"), try ListenOption("health=tcp:127.0.0.1:0"),
    ]
    let sockets = try ListeningSockets.open(expected, options: options)
    let query = try sockets.listener("query")
    #expect(query.address == .unix(path) && !query.isInherited)
    var status = stat()
    #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o660)
    #expect(fcntl(query.descriptor, F_GETFD) & FD_CLOEXEC != 0)
    #expect(fcntl(query.descriptor, F_GETFL) & O_NONBLOCK != 0)
    guard case .tcp(_, let port) = try sockets.listener("health").address else {
      Issue.record("not TCP")
      return
    }
    #expect(port > 0)
    #expect {
      try sockets.listener("other")
    } throws: {
      "\($0)".contains("health, query")
    }
    // The socket answers: a second daemon must not take it over.
    #expect {
      try ListeningSockets.open(expected, options: options)
    } throws: {
      "\($0)".contains("in use")
    }
    close(query.descriptor)
    // Nobody answers any more: the file is replaced.
    let again = try ListeningSockets.open([expected[0]], options: [options[0]])
    close(try again.listener("query").descriptor)
    close(try sockets.listener("health").descriptor)
  }

  @Test func `a file that is no socket is left alone`() throws {
    let path = "/tmp/joblet-listen-file-\(getpid())"
    try "data".write(toFile: path, atomically: true, encoding: .utf8)
    defer { unlink(path) }
    #expect {
      try ListeningSockets.open(
        [ExpectedListener(name: "a", address: .unix("/x"))], options: [try ListenOption("a=unix:\(path)")])
    } throws: {
      "\($0)".contains("not a socket")
    }
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "data")
  }

  @Test func `missing, unknown and doubled names are told`() throws {
    func refusal(_ options: [ListenOption]) -> String {
      do {
        _ = try ListeningSockets.open([ExpectedListener(name: "exec", address: .unix("/x.sock"))], options: options)
        return "accepted"
      } catch {
        return "\(error)"
      }
    }
    #expect(refusal([]).contains("--listen exec=unix:/x.sock"))
    #expect(refusal([try ListenOption("api=unix:/y")]).contains("'api'"))
    let twice = try ListenOption("exec=unix:/y")
    #expect(refusal([twice, twice]).contains("2 times"))
  }

  @Test func `inherited sockets are held against the configuration`() throws {
    func refusal(_ inherited: [Listener], _ expected: [ExpectedListener]) -> String {
      do {
        _ = try ListeningSockets.matching(inherited, expected)
        return "accepted"
      } catch {
        return "\(error)"
      }
    }
    let have = Listener(name: "api", address: .tcp(address: "0.0.0.0", port: 50051), descriptor: 3, isInherited: true)
    let same = ExpectedListener(name: "api", address: have.address)
    #expect(try ListeningSockets.matching([have], [same]).listener("api") == have)
    let other = refusal([have], [ExpectedListener(name: "api", address: .tcp(address: "0.0.0.0", port: 443))])
    #expect(
      other.contains("tcp:0.0.0.0:50051") && other.contains("tcp:0.0.0.0:443") && other.contains("contrib/install"))
    let health = ExpectedListener(name: "health", address: .tcp(address: "127.0.0.1", port: 9090))
    #expect(refusal([have], [same, health]).contains("'health'"))
    let extra = Listener(name: "spare", address: .unix("/s"), descriptor: 4, isInherited: true)
    #expect(refusal([have, extra], [same]).contains("'spare'"))
    #expect(refusal([], [same]).contains("--listen api=tcp:0.0.0.0:50051"))
  }

  @Test func `peers of a developer's socket are its own user's too`() throws {
    let made = Listener(name: "x", address: .unix("/x"), descriptor: -1, isInherited: false)
    #expect(try allowedPeers(["root", "no-such-user-here"], for: made) == [0, geteuid()])
    let inherited = Listener(name: "x", address: .unix("/x"), descriptor: -1, isInherited: true)
    #expect(try allowedPeers(["root"], for: inherited) == [0])
    #expect {
      try allowedPeers(["no-such-user-here"], for: inherited)
    } throws: {
      "\($0)".contains("no-such-user-here")
    }
  }
}
