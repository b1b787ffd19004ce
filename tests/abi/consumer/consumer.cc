// The same from C++17: a handle with an owner, a callback that is a lambda.
#include <pipeorch/pipeorch.h>

#include <cstdio>
#include <future>
#include <memory>
#include <string>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    po_node_opts opts{};
    opts.size = sizeof opts;
    opts.name = "solo";
    opts.data_dir = argv[1];
    opts.bootstrap = 1;
    char error[512] = "";
    po_node *raw = nullptr;
    if (int rv = po_node_start(&raw, &opts, error, sizeof error)) {
        std::fprintf(stderr, "po_node_start: %s: %s\n", po_err_name(rv), error);
        return 1;
    }
    std::unique_ptr<po_node, decltype(&po_node_stop)> node(raw, po_node_stop);

    struct po_query query {}; // "struct": a function has that name too
    query.size = sizeof query;
    query.what = PO_QUERY_STATUS;
    std::promise<std::string> answer;
    auto done = [](void *arg, const po_result *result) {
        std::string text = result->code
                               ? std::string()
                               : std::string(static_cast<const char *>(result->data), result->len);
        static_cast<std::promise<std::string> *>(arg)->set_value(text);
    };
    if (int rv = po_query_async(po_node_client(node.get()), &query, nullptr, done, &answer)) {
        std::fprintf(stderr, "po_query_async: %s\n", po_err_name(rv));
        return 1;
    }
    std::string status = answer.get_future().get();
    std::printf("%s\n", status.c_str());
    return status.find("\"leader\":\"solo\"") != std::string::npos ? 0 : 1;
}
