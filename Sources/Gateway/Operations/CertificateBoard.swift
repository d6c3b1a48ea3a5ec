import FoundationEssentials
import JobletModel
import Logging
import NIOSSL
import Synchronization
import X509

/// What a certificate is for, and until when.
package struct CertificateFacts: Hashable, Sendable {
  /// `server`, `authority`.
  package var name: String
  package var subject: String
  package var notAfter: Timestamp

  package init(name: String, subject: String, notAfter: Timestamp) {
    self.name = name
    self.subject = subject
    self.notAfter = notAfter
  }

  /// - Parameter name: of the first of `chain`; the others get a number behind it.
  static func read(_ name: String, _ chain: [NIOSSLCertificate]) throws -> [CertificateFacts] {
    try chain.enumerated().map { index, certificate in
      let read = try Certificate(derEncoded: try certificate.toDERBytes())
      return CertificateFacts(
        name: index == 0 ? name : "\(name)-\(index + 1)", subject: "\(read.subject)",
        notAfter: Timestamp(read.notValidAfter))
    }
  }
}

extension Timestamp {
  /// RFC 5280, section 4.1.2.5: 9999-12-31 stands for no end, which is more nanoseconds than 64 bits count.
  init(_ date: Date) {
    let seconds = Int64(date.timeIntervalSince1970)
    let (nanoseconds, isBeyond) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    self.init(nanoseconds: isBeyond ? (seconds < 0 ? .min : .max) : nanoseconds)
  }
}

/// The gateway's own certificates, as `/metrics`, `/readyz` and `/v1/node` show them, and who says in the journal that one
/// is about to end.
package final class CertificateBoard: Sendable {
  private struct State {
    var facts: [CertificateFacts] = []
    /// When, and of which state, a certificate was spoken of last.
    var told: [CertificateFacts: (state: CertificateStatus.State, at: Timestamp)] = [:]
  }
  private let state = Mutex(State())

  package init() {}

  private static let remedy =
    "'systemctl start joblet-certs-renew' renews it, or its journal says why not; "
    + "'systemctl reload joblet-api' takes it, or the gateway's says why not"

  package func replace(with facts: [CertificateFacts]) {
    state.withLock { state in
      state.facts = facts
      state.told = state.told.filter { facts.contains($0.key) }
    }
  }

  package func statuses(now: Timestamp = .now()) -> [CertificateStatus] {
    state.withLock { $0.facts }.map {
      CertificateStatus(name: $0.name, subject: $0.subject, notAfter: $0.notAfter, now: now)
    }
  }

  /// Why clients can't connect: a certificate the gateway shows them, or trusts, has ended.
  package func reasons(now: Timestamp = .now()) -> [String] {
    statuses(now: now).filter { $0.state == .expired && $0.name == "server" }.map {
      "the \($0.name) certificate (\($0.subject)) expired at \($0.notAfter); \(CertificateBoard.remedy)"
    }
  }

  /// Those to be spoken of now: at a change of their state, and once a day while they are not valid.
  package func due(now: Timestamp = .now()) -> [CertificateStatus] {
    state.withLock { state in
      var due: [CertificateStatus] = []
      for facts in state.facts {
        let status = CertificateStatus(name: facts.name, subject: facts.subject, notAfter: facts.notAfter, now: now)
        guard status.state != .valid else { continue }
        if let told = state.told[facts], told.state == status.state,
          now.nanoseconds - told.at.nanoseconds < 86_400_000_000_000
        {
          continue
        }
        state.told[facts] = (status.state, now)
        due.append(status)
      }
      return due
    }
  }

  /// Looks at the certificates now and every so often, until cancelled.
  func watch(every interval: Duration = .seconds(600), logger: Logger) async throws {
    while true {
      tell(logger)
      try await Task.sleep(for: interval)
    }
  }

  func tell(_ logger: Logger) {
    for status in due() {
      let what = "the \(status.name) certificate (\(status.subject))"
      if status.state == .expired {
        logger.error("\(what) expired at \(status.notAfter): no client can connect; \(CertificateBoard.remedy)")
      } else {
        logger.warning(
          "\(what) expires at \(status.notAfter), in \(status.daysLeft) days; \(CertificateBoard.remedy)")
      }
    }
  }
}
