"""FedAvg by streaming gRPC (Debian's python3-grpcio, numpy), as others build it: a server sends the weights to each client in chunks,
gets an update back in chunks and takes the mean. No TLS, no disk, no signatures. usage: grpc_rounds.py CLIENTS NUMBERS ROUNDS;
prints the seconds of each round. With `client ADDRESS NUMBERS` it is a client: a bidirectional stream that lasts for all rounds."""
import queue
import subprocess
import sys
import threading
import time
from concurrent import futures

import grpc
import numpy

CHUNK = 512 << 10
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def same(data):
    return data


def chunks(data):
    view = memoryview(data)
    for at in range(0, len(view), CHUNK):
        yield bytes(view[at:at + CHUNK])


def take(stream, size):
    data = bytearray()
    while len(data) < size:
        data += next(stream)
    return data


def client(address, numbers):
    change = numpy.random.default_rng(1).standard_normal(numbers, dtype=numpy.float32)
    wanted = queue.Queue()

    def answers():
        while True:
            if wanted.get() is None:
                return
            yield from chunks(change.tobytes())

    with grpc.insecure_channel(address, OPTIONS) as channel:
        stream = channel.stream_stream("/fed/Rounds", same, same)(answers())
        try:
            while True:
                numpy.frombuffer(bytes(take(stream, 4 * numbers)), dtype=numpy.float32)
                wanted.put(True)
        except (StopIteration, grpc.RpcError):
            wanted.put(None)


class Server(grpc.GenericRpcHandler):
    def __init__(self, clients, numbers, rounds):
        self.clients, self.numbers, self.rounds = clients, numbers, rounds
        self.weights = numpy.zeros(numbers, dtype=numpy.float32)
        self.begin, self.end = threading.Barrier(clients + 1), threading.Barrier(clients + 1)
        self.lock, self.sum = threading.Lock(), None

    def service(self, handler_call_details):
        return grpc.stream_stream_rpc_method_handler(self.talk, same, same)

    def talk(self, stream, _context):
        for _ in range(self.rounds):
            self.begin.wait()
            yield from chunks(self.weights.tobytes())
            update = numpy.frombuffer(bytes(take(stream, 4 * self.numbers)), dtype=numpy.float32)
            with self.lock:
                self.sum += update
            self.end.wait()

    def run(self):
        for _ in range(self.rounds):
            self.sum = numpy.zeros(self.numbers, dtype=numpy.float64)
            began = time.perf_counter()
            self.begin.wait()
            self.end.wait()
            self.weights = (self.weights + self.sum / self.clients).astype(numpy.float32)
            print(time.perf_counter() - began, flush=True)


def main():
    clients, numbers, rounds = map(int, sys.argv[1:4])
    server = grpc.server(futures.ThreadPoolExecutor(clients + 2), options=OPTIONS)
    handler = Server(clients, numbers, rounds)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    others = [subprocess.Popen([sys.executable, __file__, "client", f"127.0.0.1:{port}", str(numbers)]) for _ in range(clients)]
    try:
        handler.run()
    finally:
        server.stop(0)
        for one in others:
            one.terminate()
            one.wait()


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client(sys.argv[2], int(sys.argv[3]))
    else:
        main()
