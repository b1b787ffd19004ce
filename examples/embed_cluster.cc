// Three control nodes in one C++ program, with a replicated counter of its own, and a worker that
// serves tasks: everything that a cluster has, in one process. In production each node is in a
// process of its own; nothing else changes.
//
//   c++ -std=c++17 embed_cluster.cc $(pkg-config --cflags --libs pipeorch) -o embed_cluster &&
//   ./embed_cluster
#include <pipeorch/pipeorch.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

struct Counter { // the application's replicated state: the same on every node
    long value = 0;
    po_state_machine sm{sizeof sm, this, apply, snapshot, restore};

    static int apply(void *self, uint64_t, const void *cmd, size_t len, void *result,
                     size_t *result_len)
    {
        long delta = 0;
        std::memcpy(&delta, cmd, len < sizeof delta ? len : sizeof delta);
        long now = static_cast<Counter *>(self)->value += delta;
        std::memcpy(result, &now, *result_len = sizeof now);
        return 0;
    }
    static int snapshot(void *self, int (*write)(void *, const void *, size_t), void *ctx)
    {
        return write(ctx, &static_cast<Counter *>(self)->value, sizeof(long));
    }
    static int restore(void *self, const void *data, size_t len)
    {
        long value = 0;
        if (len != 0 && len != sizeof value)
            return -1;
        if (len)
            std::memcpy(&value, data, len);
        static_cast<Counter *>(self)->value = value;
        return 0;
    }
};

static void check(int rv, const char *what, const char *detail)
{
    if (rv)
        throw std::runtime_error(std::string(what) + ": " + po_err_name(rv) + ": " + detail);
}

struct Node { // RAII around one control node
    po_node *handle = nullptr;
    Counter counter;

    Node(const std::string &dir, const std::vector<po_member> &members, size_t self)
    {
        char error[256];
        po_node_opts opts{};
        opts.size = sizeof opts;
        opts.name = members[self].name;
        opts.data_dir = dir.c_str();
        opts.zone = opts.name;
        opts.listen = members[self].address;
        opts.worker_listen = "127.0.0.1:0"; // any free port
        opts.bootstrap = 1;
        opts.members = members.data();
        opts.members_count = members.size();
        opts.state_machine = &counter.sm;
        check(po_node_start(&handle, &opts, error, sizeof error), "start", error);
    }
    ~Node()
    {
        po_node_stop(handle);
    }
    Node(const Node &) = delete;
};

int main(int argc, char **argv)
try {
    const std::string port =
        argc > 3 ? argv[1] : "7301"; // embed_cluster [PORT PORT PORT]: the peers' ports
    auto dir = std::filesystem::temp_directory_path() / ("embed_cluster." + port);
    std::filesystem::remove_all(dir);
    std::filesystem::create_directories(dir);
    std::string addresses[3];
    const char *names[3] = {"alpha", "beta", "gamma"};
    std::vector<po_member> members;
    for (int i = 0; i < 3; i++)
        members.push_back(
            {names[i],
             (addresses[i] = "127.0.0.1:" + (argc > 3 ? argv[1 + i] : std::to_string(7301 + i)))
                 .c_str()});

    std::string worker_addresses;
    {
        std::vector<std::unique_ptr<Node>> nodes;
        for (size_t i = 0; i < 3; i++) {
            char address[PO_ADDRESS_MAX_BYTES + 1];
            nodes.push_back(std::make_unique<Node>((dir / names[i]).string(), members, i));
            check(po_node_worker_address(nodes[i]->handle, address, sizeof address), "address",
                  names[i]);
            worker_addresses += (i ? "," : "") + std::string(address);
        }
        for (auto &node : nodes) // commands may be given to any node; the library finds the leader
            for (long delta = 1; delta <= 10; delta++) {
                long now = 0;
                size_t len = sizeof now;
                check(po_apply(node->handle, &delta, sizeof delta, nullptr, &now, &len), "apply",
                      names[0]);
                if (delta == 10)
                    std::printf("counter after ten commands through %s: %ld\n",
                                names[&node - nodes.data()], now);
            }

        char error[256];
        po_worker *worker;
        po_worker_opts wo{};
        wo.size = sizeof wo;
        wo.id = "greeter-1";
        wo.addresses = worker_addresses.c_str();
        check(po_worker_open(&worker, &wo, error, sizeof error), "worker", error);
        po_capability cap{};
        cap.size = sizeof cap;
        cap.name = "greet:person";
        auto greet = [](void *, po_task *task) {
            size_t len;
            std::string name(static_cast<const char *>(po_task_input(task, &len)));
            std::string result = "{\"greeting\": \"hello\", \"to\": " + name + "}";
            po_task_complete(task, result.data(), result.size());
        };
        check(po_worker_handle(worker, &cap, greet, nullptr), "handle", cap.name);
        std::thread serving([worker] { po_worker_run(worker); });

        po_task_opts task{};
        task.size = sizeof task;
        task.capability = "greet:person";
        task.input = "\"Ada\"";
        task.input_len = 5;
        uint64_t id = 0;
        po_task_info info{};
        info.size = sizeof info;
        po_client *client = po_node_client(nodes[2]->handle);
        check(po_submit_task(client, &task, nullptr, &id), "submit", po_client_error());
        check(po_task_wait(client, id, nullptr, &info), "wait", po_client_error());
        std::printf("task %llu ran on %s: %s\n", static_cast<unsigned long long>(id),
                    info.worker_id, info.result ? info.result : info.error);
        po_free(info.result);
        po_free(info.error);

        po_worker_stop(worker);
        serving.join();
        po_worker_close(worker);
    }
    std::filesystem::remove_all(dir);
    return 0;
} catch (const std::exception &e) {
    std::fprintf(stderr, "embed_cluster: %s\n", e.what());
    return 1;
}
