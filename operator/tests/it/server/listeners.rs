//! Listeners: what is told of them follows what the API server says of their Services, and restarts no pod.

use k8s_openapi::api::core::v1::ConfigMap;

use super::*;

const CONFIG_MAP: &str = "/api/v1/namespaces/shop/configmaps/a-broker-config";

fn with_listeners(spec: Value) -> Server {
    let server = with_a_group();
    let mut objects = server.objects();
    objects.get_mut(GROUP).expect("the group")["spec"]["listeners"] = spec;
    drop(objects);
    server
}

fn service(name: &str) -> String {
    format!("/api/v1/namespaces/shop/services/{name}")
}

fn told(server: &Server) -> String {
    let data = server.get::<ConfigMap>(CONFIG_MAP).data.clone().expect("data");
    data["listeners.yaml"].trim().to_owned()
}

fn endpoints(server: &Server) -> Vec<(String, String)> {
    let group = server.get::<BrokerGroup>(GROUP);
    let endpoints = group.status.iter().flat_map(|status| &status.endpoints);
    endpoints
        .map(|endpoint| (endpoint.listener.clone(), endpoint.bootstrap.clone().unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn an_address_of_a_load_balancer_that_comes_late_is_told_and_restarts_no_pod() {
    let server = with_listeners(json!([{"name": "outside", "type": "LoadBalancer", "port": 8082}]));
    let (client, _task) = server.start();
    let writes = reconcile_group(&server, &client).await;
    assert!(writes.contains(&"PATCH services/a-broker-0-outside".to_owned()), "{writes:?}");
    assert_eq!(told(&server), "outside:\n- ''");
    let internal = ("internal".to_owned(), "10.96.0.10:8081".to_owned());
    assert_eq!(endpoints(&server), [internal.clone(), ("outside".to_owned(), String::new())]);
    assert_eq!(
        reconcile_group(&server, &client).await,
        [""; 0],
        "an address that does not come is no change"
    );

    let status = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}]}});
    server.objects().get_mut(&service("a-broker-0-outside")).expect("the Service")["status"] = status;
    let writes = reconcile_group(&server, &client).await;
    assert_eq!(writes, ["PATCH configmaps/a-broker-config", "PATCH a/status"]);
    assert_eq!(told(&server), "outside:\n- 203.0.113.9:8082");
    assert_eq!(endpoints(&server), [internal, ("outside".to_owned(), "203.0.113.9:8082".to_owned())]);
    assert_eq!(reconcile_group(&server, &client).await, [""; 0]);
}

#[tokio::test]
pub(crate) async fn ports_of_nodes_are_told_as_they_were_given_and_go_with_their_listener() {
    let server = with_listeners(json!([{"name": "nodes", "type": "NodePort", "port": 8082}]));
    let (client, _task) = server.start();
    reconcile_group(&server, &client).await;
    assert_eq!(told(&server), "nodes:\n- '{node}:31000'");
    let with_a_pod_on = |node: &str| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a-broker-0", "namespace": "shop", "labels": {
                "app.kubernetes.io/component": "broker", "mq.gantry.dev/broker-group": "a",
            }},
            "status": {"hostIP": node},
        });
        server.put("/api/v1/namespaces/shop/pods/a-broker-0", pod);
    };
    with_a_pod_on("10.0.0.7");
    reconcile_group(&server, &client).await;
    assert_eq!(endpoints(&server)[1], ("nodes".to_owned(), "10.0.0.7:31000".to_owned()));

    // A group that is left alone goes on to say where it is reached.
    server.objects().get_mut(GROUP).expect("the group")["metadata"]["annotations"] =
        json!({"mq.gantry.dev/paused": "true"});
    with_a_pod_on("10.0.0.8");
    reconcile_group(&server, &client).await;
    assert_eq!(endpoints(&server)[1], ("nodes".to_owned(), "10.0.0.8:31000".to_owned()));

    server.objects().get_mut(GROUP).expect("the group")["metadata"]["annotations"] = json!({});
    server.objects().get_mut(GROUP).expect("the group")["spec"]["listeners"] = json!([]);
    let writes = reconcile_group(&server, &client).await;
    let place = |write: &str| {
        let found = writes.iter().position(|it| it == write);
        found.unwrap_or_else(|| panic!("no {write} in {writes:?}"))
    };
    let (asked, gone) = (place("PATCH statefulsets/a-broker"), place("DELETE services/a-broker-0-nodes"));
    assert!(asked < gone, "pods that run use it: {writes:?}");
    assert_eq!(endpoints(&server).len(), 1);
}
