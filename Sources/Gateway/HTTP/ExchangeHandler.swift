import HTTPTypes
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP2

/// Turns the parts of requests into tasks of the responder, and their answers into parts: one instance for an HTTP/1.1
/// connection (one request after the other) or an HTTP/2 stream (one request).
///
/// What it holds in memory is bounded: of a body nobody has asked for 64 KiB, of one asked for its limit, of a response the
/// batch that was not flushed yet, and a next request is not begun before the last response has left.
final class ExchangeHandler: ChannelDuplexHandler {
  typealias InboundIn = HTTPRequestPart
  typealias OutboundIn = HTTPResponsePart
  typealias OutboundOut = HTTPResponsePart

  /// Time bounds of a connection (`server.timeouts`).
  struct Limits: Sendable {
    /// From a request's first byte to the end of its head (HTTP/1.1).
    var header: TimeAmount
    /// Between requests, and for a whole body.
    var idle: TimeAmount
  }

  private let info: ConnectionInfo
  private let responder: any RequestResponder
  private let executor: LoopExecutor
  private let limits: Limits
  private let drain: DrainSignal
  private let ledger: LoopLedger
  private let share: LoopLedger.Connection

  private var context: ChannelHandlerContext?
  private var current: Exchange?
  private var lastExchange: UInt64 = 0
  /// A request that came while the last response was still leaving.
  private var deferred: Deferred?

  private struct Deferred {
    var request: HTTPRequest
    var isKeepAlive: Bool
    var body = ByteBuffer()
    var isWhole = false
  }

  private var unflushed = 0
  private var unsentBytes = 0
  /// What the ledger knows this handler to hold of bodies.
  private var accountedBytes = 0
  private var isReadHeld = false
  /// When the time is up; nil while nothing is waited for.
  private var deadline: NIODeadline?
  /// The loop's timer. It stays when the deadline moves back or goes, and looks at it when it fires: to make and cancel two
  /// for each request cost a tenth of the request.
  private var timer: (scheduled: Scheduled<Void>, fires: NIODeadline)?
  private var isHeadTimer = false
  /// Set by ``HTTP1Facts`` before each head.
  var isKeepAlive = true

  private static let heldBodyBytes = 64 << 10
  /// How long a client may go on sending a body that nobody will read, before the connection is closed.
  private static let discardTime = TimeAmount.seconds(2)

  init(
    info: ConnectionInfo, responder: any RequestResponder, executor: LoopExecutor, limits: Limits, drain: DrainSignal,
    ledger: LoopLedger, share: LoopLedger.Connection
  ) {
    self.info = info
    self.responder = responder
    self.executor = executor
    self.limits = limits
    self.drain = drain
    self.ledger = ledger
    self.share = share
  }

  // MARK: The channel

  func handlerAdded(context: ChannelHandlerContext) {
    self.context = context
    if info.version == .http1 { startTimer(limits.idle) }
  }

  func handlerRemoved(context: ChannelHandlerContext) {
    finish(ChannelError.ioOnClosedChannel)
    cancelTimer()
    self.context = nil
  }

  func channelInactive(context: ChannelHandlerContext) {
    finish(ChannelError.ioOnClosedChannel)
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let request):
      stopTimer()
      if current == nil, unflushed == 0 {
        begin(request, isKeepAlive, context)
      } else {
        deferred = Deferred(request: request, isKeepAlive: isKeepAlive)
      }
    case .body(let bytes): receive(bytes)
    case .end: receiveEnd()
    }
  }

  /// Bytes of a request's head arrive (HTTP/1.1): from the first of them on it has its time.
  func bytesArrived() {
    guard current == nil, deferred == nil, !isHeadTimer else { return }
    startTimer(limits.header)
    isHeadTimer = true
  }

  /// Back-pressure on request bodies: what nobody reads yet stays in the socket.
  func read(context: ChannelHandlerContext) {
    let isFull = current.map { !$0.isDiscarding && $0.body.readableBytes >= $0.bodyBound } ?? false
    if isFull || deferred != nil { isReadHeld = true } else { context.read() }
  }

  private func resumeReading() {
    guard isReadHeld, let context else { return }
    isReadHeld = false
    read(context: context)
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    guard info.version == .http1, isUnreadable(error) else { return end(error, context) }
    if let exchange = current {
      // What can't be read comes after a request that is whole: that one gets its answer, which is the connection's last.
      if exchange.isRequestWhole {
        exchange.isKeepAlive = false
        deferred = nil
        return account()
      }
      if exchange.isHeadSent { return end(error, context) }
      finish(error)
    }
    refuseUnreadable(context)
  }

  private func end(_ error: any Error, _ context: ChannelHandlerContext) {
    finish(error)
    context.close(promise: nil)
  }

  private func isUnreadable(_ error: any Error) -> Bool {
    error is HTTPParserError || "\(type(of: error))" == "HTTP1TypeConversionError"
  }

  // MARK: Requests

  private func begin(_ request: HTTPRequest, _ isKeepAlive: Bool, _ context: ChannelHandlerContext) {
    lastExchange += 1
    let exchange = Exchange(id: lastExchange, request: request, isKeepAlive: isKeepAlive)
    current = exchange
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    let writer = ResponseWriter(handler: bound, loop: context.eventLoop, exchange: exchange.id)
    let request = RequestContext(
      request: request, connection: info, requestID: RequestID.of(request),
      body: RequestBody(handler: bound, loop: context.eventLoop, exchange: exchange.id))
    let responder = responder
    exchange.task = Task(executorPreference: executor) { await responder.respond(to: request, through: writer) }
  }

  /// Tells the ledger what is held of bodies now.
  private func account() {
    let held = (current?.body.readableBytes ?? 0) + (deferred?.body.readableBytes ?? 0)
    guard held != accountedBytes else { return }
    ledger.body(held - accountedBytes, of: share)
    accountedBytes = held
  }

  private func receive(_ bytes: ByteBuffer) {
    defer { account() }
    var bytes = bytes
    // The decoder may hand on the next request while the last response's end is still being written: then there are two,
    // and what comes belongs to the later one.
    guard deferred == nil else {
      deferred?.body.writeBuffer(&bytes)
      return
    }
    guard let exchange = current, !exchange.isDiscarding else { return }
    exchange.body.writeBuffer(&bytes)
    guard let waiter = exchange.bodyWaiter else { return }
    account()
    let isTooLarge = exchange.body.readableBytes > waiter.limit
    let isCrowded = exchange.body.readableBytes > ExchangeHandler.heldBodyBytes && ledger.isFullOfBodies(share)
    guard isTooLarge || isCrowded else { return }
    exchange.bodyWaiter = nil
    stopTimer()
    exchange.body = ByteBuffer()
    exchange.isDiscarding = true
    waiter.promise.fail(isTooLarge ? BodyProblem.tooLarge(waiter.limit) : BodyProblem.crowded)
  }

  private func receiveEnd() {
    defer { account() }
    guard deferred == nil else {
      deferred?.isWhole = true
      return
    }
    guard let exchange = current else { return }
    exchange.isRequestWhole = true
    if let waiter = exchange.bodyWaiter {
      exchange.bodyWaiter = nil
      stopTimer()
      waiter.promise.succeed(exchange.body)
      exchange.body = ByteBuffer()
    }
    if exchange.isResponseEnded { complete(exchange) }
  }

  func collectBody(exchange id: UInt64, limit: Int, promise: EventLoopPromise<ByteBuffer>) {
    guard let exchange = current, exchange.id == id, let context else {
      return promise.fail(ChannelError.ioOnClosedChannel)
    }
    let announced = exchange.request.headerFields[.contentLength].flatMap { Int($0) } ?? 0
    guard announced <= limit, exchange.body.readableBytes <= limit else {
      return promise.fail(BodyProblem.tooLarge(limit))
    }
    if exchange.isRequestWhole {
      promise.succeed(exchange.body)
      exchange.body = ByteBuffer()
      return account()
    }
    exchange.bodyWaiter = (promise, limit)
    exchange.bodyBound = limit + 1
    if exchange.request.headerFields[.expect]?.lowercased() == "100-continue", exchange.body.readableBytes == 0 {
      context.writeAndFlush(wrapOutboundOut(.head(HTTPResponse(status: .continue))), promise: nil)
    }
    startTimer(limits.idle)
    resumeReading()
  }

  // MARK: Responses

  func send(_ parts: ResponseParts, exchange id: UInt64, promise: EventLoopPromise<Void>) {
    guard let exchange = current, exchange.id == id, !exchange.isResponseEnded, let context else {
      return promise.fail(ChannelError.ioOnClosedChannel)
    }
    unflushed += 1
    unsentBytes += parts.body?.readableBytes ?? 0
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    promise.futureResult.whenComplete { _ in bound.value.flushed() }
    // The promise goes with the last part: when that is out, all is.
    let hasBody = (parts.body?.readableBytes ?? 0) > 0 && !exchange.isHead
    if let head = parts.head {
      exchange.isHeadSent = true
      let isLast = !hasBody && !parts.isEnd
      context.write(wrapOutboundOut(.head(prepare(head, exchange))), promise: isLast ? promise : nil)
    }
    if hasBody, let body = parts.body {
      context.write(wrapOutboundOut(.body(body)), promise: parts.isEnd ? nil : promise)
    } else if parts.head == nil, !parts.isEnd {
      promise.succeed()
    }
    if parts.isEnd {
      exchange.isResponseEnded = true
      context.write(wrapOutboundOut(.end(nil)), promise: promise)
    }
    context.flush()
    share.wasServed = true
    if unflushed > 0 { ledger.waits(self, bytes: unsentBytes, of: share) }
    if exchange.isResponseEnded { afterResponse(exchange, context) }
  }

  private func prepare(_ head: HTTPResponse, _ exchange: Exchange) -> HTTPResponse {
    guard info.version == .http1 else { return head }
    var head = head
    // A HEAD reply whose length is not known would end in a chunk terminator that the client does not expect.
    let hasUnknownLength = exchange.isHead && head.headerFields[.contentLength] == nil
    if !exchange.isRequestWhole || drain.isRaised || hasUnknownLength { exchange.isKeepAlive = false }
    if !exchange.isKeepAlive { head.headerFields[.connection] = "close" }
    return head
  }

  private func afterResponse(_ exchange: Exchange, _ context: ChannelHandlerContext) {
    if exchange.isRequestWhole { return complete(exchange) }
    // The rest of the body is read and thrown away for a moment: closing at once would make the kernel reset the
    // connection, and the client might lose the answer that says why.
    exchange.isDiscarding = true
    exchange.body = ByteBuffer()
    account()
    startTimer(ExchangeHandler.discardTime)
    resumeReading()
  }

  private func complete(_ exchange: Exchange) {
    stopTimer()
    current = nil
    guard let context else { return }
    if !exchange.isKeepAlive {
      closeWhenFlushed = true
      if unflushed == 0 { context.close(promise: nil) }
      return
    }
    beginDeferred(context)
    if current == nil, info.version == .http1 { startTimer(limits.idle) }
    resumeReading()
  }

  private var closeWhenFlushed = false

  private func flushed() {
    unflushed -= 1
    guard unflushed == 0 else { return }
    unsentBytes = 0
    ledger.leaves(self)
    guard let context else { return }
    if closeWhenFlushed { context.close(promise: nil) } else { beginDeferred(context) }
  }

  private func beginDeferred(_ context: ChannelHandlerContext) {
    guard current == nil, unflushed == 0, let next = deferred else { return }
    deferred = nil
    begin(next.request, next.isKeepAlive, context)
    receive(next.body)
    if next.isWhole { receiveEnd() }
    resumeReading()
  }

  /// Ends a response in a way no client takes for its end: HTTP/1.1 loses the connection without the last chunk, HTTP/2
  /// sends RST_STREAM.
  func abort(exchange id: UInt64) {
    guard let exchange = current, exchange.id == id, let context else { return }
    finish(ChannelError.ioOnClosedChannel)
    context.close(promise: nil)
  }

  /// Gives up a reply that its client does not take: too much is held for clients like it.
  func drop() {
    finish(ChannelError.ioOnClosedChannel)
    context?.close(promise: nil)
  }

  private func refuseUnreadable(_ context: ChannelHandlerContext) {
    var head = HTTPResponse(status: .badRequest)
    let body = Reply.problem(.unreadableRequest, requestID: RequestID.make())
    head.headerFields = body.headers
    head.headerFields[.connection] = "close"
    guard case .bytes(let bytes) = body.content else { return context.close(promise: nil) }
    head.headerFields[.contentLength] = "\(bytes.readableBytes)"
    context.write(wrapOutboundOut(.head(head)), promise: nil)
    context.write(wrapOutboundOut(.body(bytes)), promise: nil)
    context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    context.close(promise: nil)
  }

  /// The client is gone: its task is told.
  private func finish(_ error: any Error) {
    stopTimer()
    ledger.leaves(self)
    defer { account() }
    deferred = nil
    guard let exchange = current else { return }
    current = nil
    exchange.bodyWaiter?.promise.fail(error)
    exchange.bodyWaiter = nil
    if !exchange.isResponseEnded { exchange.task?.cancel() }
  }

  // MARK: Time

  private func startTimer(_ amount: TimeAmount) {
    guard let context else { return }
    let end = context.eventLoop.now + amount
    deadline = end
    isHeadTimer = false
    wake(at: end, context)
  }

  private func stopTimer() {
    deadline = nil
    isHeadTimer = false
  }

  /// Sees to it that the loop calls at that time or before.
  private func wake(at end: NIODeadline, _ context: ChannelHandlerContext) {
    if let timer, timer.fires <= end { return }
    cancelTimer()
    let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
    timer = (context.eventLoop.scheduleTask(deadline: end) { bound.value.timerFired() }, end)
  }

  private func cancelTimer() {
    timer?.scheduled.cancel()
    timer = nil
  }

  private func timerFired() {
    timer = nil
    guard let deadline, let context else { return }
    guard context.eventLoop.now >= deadline else { return wake(at: deadline, context) }
    self.deadline = nil
    timeIsUp()
  }

  private func timeIsUp() {
    if let exchange = current, let waiter = exchange.bodyWaiter {
      exchange.bodyWaiter = nil
      exchange.isDiscarding = true
      waiter.promise.fail(BodyProblem.late)
    } else {
      // The reply is out and its client goes on sending: it did nothing wrong, so the stream ends without an error (RFC
      // 9113, section 8.1).
      if info.version == .http2, current?.isResponseEnded == true {
        context?.triggerUserOutboundEvent(NIOHTTP2FramePayloadToHTTPEvent.reset(code: .noError), promise: nil)
      }
      finish(ChannelError.ioOnClosedChannel)
      context?.close(promise: nil)
    }
  }
}

/// One request and its response, on the connection's loop.
private final class Exchange {
  let id: UInt64
  let request: HTTPRequest
  let isHead: Bool
  var isKeepAlive: Bool
  var task: Task<Void, Never>?
  var body = ByteBuffer()
  /// Reading stops while ``body`` holds as much.
  var bodyBound = 64 << 10
  var bodyWaiter: (promise: EventLoopPromise<ByteBuffer>, limit: Int)?
  /// Nobody will read the rest of the body.
  var isDiscarding = false
  var isRequestWhole = false
  var isHeadSent = false
  var isResponseEnded = false

  init(id: UInt64, request: HTTPRequest, isKeepAlive: Bool) {
    self.id = id
    self.request = request
    self.isKeepAlive = isKeepAlive
    isHead = request.method == .head
  }
}

/// What can be wrong with a body before anybody looks into it.
enum BodyProblem: Error {
  case tooLarge(Int)
  case late
  /// Too many unfinished bodies at once.
  case crowded
}
