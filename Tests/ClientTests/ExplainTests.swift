import HTTPClient
import JobletClient
import JobletModel
import RnxCommands
import Testing

@Suite struct ExplainTests {
  static func next(_ error: JobletError, conflict: String? = nil) -> String {
    Explain.failure(error, what: "it can't be done", address: "n:50051", conflict: conflict).next
  }

  static let closings: [(HTTPError.Kind, String)] = [
    (.other, "getpeername() failed with errno 107: Transport endpoint is not connected"),
    (.cannotConnect, "getpeername() failed with errno 107: Transport endpoint is not connected"),
    (.interrupted, "Send failure: Connection reset by peer"), (.interrupted, "Send failure: Broken pipe"),
    (.tls, "OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to n:50051"),
  ]

  @Test(arguments: closings)
  func `a connection closed while it was sent to may be a refused certificate`(kind: HTTPError.Kind, message: String) {
    let next = Self.next(.unreachable(HTTPError(kind, message)))
    #expect(next.contains("the node may not accept your certificate") && next.contains("or it went away"))
  }

  @Test func `other failures keep their own advice`() {
    let alert = "OpenSSL SSL_read: error:0A000418:SSL routines::tlsv1 alert unknown ca, errno 0"
    #expect(Self.next(.unreachable(HTTPError(.tls, alert))).contains("may not accept your certificate"))
    let plain = "error:0A00010B:SSL routines::wrong version number"
    #expect(Self.next(.unreachable(HTTPError(.tls, plain))).contains("there is no TLS at this address: a wrong port?"))
    let down = "Failed to connect to n port 50051: Connection refused"
    #expect(Self.next(.unreachable(HTTPError(.cannotConnect, down))).contains("systemctl status joblet"))
  }

  @Test func `a job that has to end first is to be stopped`() {
    let refusal = JobletError.Refusal(status: 409, kind: .conflict, detail: "it has not ended (RUNNING)")
    let id = JobClientFixture.record.id
    #expect(Self.next(.refused(refusal), conflict: JobDelete.stopFirst(id)).contains("rnx job stop \(id)"))
    #expect(Self.next(.refused(refusal)).contains("rnx job status"))
  }
}
